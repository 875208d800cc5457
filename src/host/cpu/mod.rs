//! Processors: which there are and what they did ([`usage`]), and CPU models: what each has, how one described in XML
//! compares with another, what several have in common.
//!
//! What a model has comes from QEMU's own answers (`x86_models.txt`, made by `scripts/cpu-models.py`), the order and
//! names of features from the vendors' manuals (`x86_features.txt`).

mod baseline;
mod compare;
mod description;
mod table;
mod usage;

#[cfg(test)]
pub(super) use usage::AT_CLKTCK;
pub use usage::{cpu_map, cpu_stats};

pub use baseline::{Options as BaselineOptions, baseline};
pub use compare::{Offer, Outcome, compare};
pub use description::{Description, describe};
pub use table::{Model, is_known_feature, model, model_names, models, sort_features};

use std::collections::BTreeSet;

/// Names of features.
pub type Features = BTreeSet<String>;
