//! `<seclabel>`, of the domain and of single devices.

use super::FormatOptions;
use super::words::{YesNo, words};
use crate::error::{Error, Result};
use crate::xml::{Node, Writer};

/// `<seclabel>` of the domain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seclabel {
    pub kind: Option<SeclabelType>,
    pub model: Option<String>,
    pub relabel: Option<YesNo>,
    pub label: Option<String>,
    pub imagelabel: Option<String>,
    pub baselabel: Option<String>,
}

words! {
    /// `<seclabel type>`.
    pub enum SeclabelType { None = "none", Dynamic = "dynamic", Static = "static" }
}

/// `<seclabel>` of a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceSeclabel {
    pub model: Option<String>,
    pub relabel: Option<YesNo>,
    pub label: Option<String>,
    pub labelskip: Option<YesNo>,
}

/// Refuses labels of a model that nobody would apply: only `models` (and `none`) are there. A guest that asked for
/// confinement must not run without. Error: code 67, libvirt's text for it.
pub fn check_models(labels: &[Seclabel], models: &[&str]) -> Result<()> {
    let unknown = labels
        .iter()
        .filter_map(|label| label.model.as_deref())
        .find(|model| *model != "none" && !models.contains(model));
    match unknown {
        None => Ok(()),
        Some(model) => Err(Error::unsupported_config(format!(
            "Security driver model '{model}' is not available: remove <seclabel model='{model}'>"
        ))),
    }
}

impl Seclabel {
    /// Reads a domain's `<seclabel>`.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        Ok(Seclabel {
            kind: node.attr_value("type")?,
            model: node.attr("model").map(str::to_string),
            relabel: node.attr_value("relabel")?,
            label: node.child_string("label"),
            imagelabel: node.child_string("imagelabel"),
            baselabel: node.child_string("baselabel"),
        })
    }

    /// Writes it; labels of the dynamic kind belong to one run.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("seclabel", |w| {
            w.attr_opt("type", self.kind);
            w.attr_opt("model", self.model.as_ref());
            if self.kind == Some(SeclabelType::None) {
                return;
            }
            w.attr_opt("relabel", self.relabel);
            let dynamic = self.kind.unwrap_or(SeclabelType::Dynamic) == SeclabelType::Dynamic;
            if !(o.inactive && dynamic) {
                w.text_opt("label", self.label.as_ref());
            }
            if !o.inactive {
                w.text_opt("imagelabel", self.imagelabel.as_ref());
            }
            w.text_opt("baselabel", self.baselabel.as_ref());
        });
    }

    /// Drops what belongs to one run only.
    pub(crate) fn make_inactive(&mut self) {
        if self.kind.unwrap_or(SeclabelType::Dynamic) == SeclabelType::Dynamic {
            self.label = None;
        }
        self.imagelabel = None;
    }
}

impl DeviceSeclabel {
    /// Reads every `<seclabel>` of a source.
    pub(crate) fn read_all(node: Node<'_>) -> Result<Vec<Self>> {
        node.children("seclabel")
            .map(|node| {
                Ok(DeviceSeclabel {
                    model: node.attr("model").map(str::to_string),
                    relabel: node.attr_value("relabel")?,
                    label: node.child_string("label"),
                    labelskip: node.attr_value("labelskip")?,
                })
            })
            .collect()
    }

    /// Writes it; `labelskip` belongs to one run.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        if o.inactive && self.labelskip == Some(YesNo::Yes) && self.relabel.is_none() && self.label.is_none() {
            return;
        }
        w.element("seclabel", |w| {
            w.attr_opt("model", self.model.as_ref());
            if self.labelskip == Some(YesNo::Yes) && !o.inactive {
                w.attr("labelskip", YesNo::Yes);
            } else {
                w.attr_opt("relabel", self.relabel);
            }
            w.text_opt("label", self.label.as_ref());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_nobody_applies_is_refused() {
        let label = |model: &str| Seclabel { model: Some(model.into()), ..Seclabel::default() };
        assert!(check_models(&[label("dac"), label("none"), Seclabel::default()], &["dac"]).is_ok());
        let error = check_models(&[label("dac"), label("apparmor")], &["dac"]).unwrap_err();
        assert!(error.message().contains("'apparmor' is not available"), "{}", error.message());
        assert!(check_models(&[label("dac")], &[]).is_err());
    }
}
