//! The QEMU Machine Protocol: lines of JSON over a unix socket, one connection per guest.
//!
//! ```text
//! execute() --id, oneshot--> task (owns the socket) --line--> QEMU
//!                              | map id -> oneshot
//!                              +<-- reply with that id, in any order; late ones are dropped
//!                              +<-- event -> event queue, known or not, as raw JSON
//! ```
//!
//! Owns the protocol: framing, ids, correlation, end of connection. Never interprets an event, never retries, never
//! decides what a failure means for the guest. Dropping a command's future is always safe.
//!
//! QEMU is not trusted: a line has a maximum length, an outbound queue too, and every wait has a deadline.

mod client;
mod wire;

pub use client::{Command, Events, Qmp};
pub use wire::{Event, Greeting, LineBuffer, LineError, MAX_LINE, Message, QmpError, parse_line};
