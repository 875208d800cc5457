//! What makes a virtual network live.
