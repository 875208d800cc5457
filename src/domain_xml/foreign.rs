//! Elements of libvirt's format that nothing here acts on yet: kept as they are, so that a dump still has them.
//!
//! Every one read is remarked on. A driver must refuse those that a guest's safety rests on (`launchSecurity`).

use crate::xml::{Node, Writer};

/// An element as it was read; comments and the order between text and children are not kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Foreign {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Foreign>,
    pub text: String,
}

impl Foreign {
    /// Reads an element and all below it.
    pub(crate) fn read(node: Node<'_>) -> Self {
        node.remark(format!("element '{}' is kept, but nothing acts on it yet", node.name()));
        Self::read_quietly(node)
    }

    /// The same without a remark.
    pub(crate) fn read_quietly(node: Node<'_>) -> Self {
        node.mark_used();
        Foreign {
            name: node.name().to_string(),
            attributes: node.attrs().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            children: node.all_children().map(Self::read_quietly).collect(),
            text: node.text().trim().to_string(),
        }
    }

    /// Every child of one of these names.
    pub(crate) fn read_all(node: Node<'_>, names: &[&'static str]) -> Vec<Self> {
        for name in names {
            node.note(false, name);
        }
        node.all_children().filter(|child| names.contains(&child.name())).map(Self::read).collect()
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.start(self.name.clone());
        for (name, value) in &self.attributes {
            w.attr(name, value);
        }
        if !self.text.is_empty() && self.children.is_empty() {
            return w.end_with_text(&self.text);
        }
        for child in &self.children {
            child.write(w);
        }
        w.end();
    }

    /// Writes those of one of these names.
    pub(crate) fn write_named(list: &[Self], names: &[&str], w: &mut Writer) {
        for element in list.iter().filter(|element| names.contains(&element.name.as_str())) {
            element.write(w);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;

    #[test]
    fn kept_as_it_is() {
        let xml = "<launchSecurity type='sev'>\n  <policy>0x0001</policy>\n  <x a='&lt;'/>\n</launchSecurity>\n";
        assert_eq!(rewrite(xml, |node| Ok(Foreign::read(node)), Foreign::write).expect("reads"), xml);
    }
}
