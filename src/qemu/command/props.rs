//! The two spellings of a QEMU option: JSON (`-device`, `-object`, `-blockdev`, `-netdev`) and `key=value,...`.
//!
//! Both keep the order in which properties were added, so that a command line reads as libvirt writes it.

use std::fmt::Write;

use serde_json::Value;

/// A JSON object under construction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Props(Vec<(String, PropValue)>);

#[derive(Clone, Debug, PartialEq)]
enum PropValue {
    Plain(Value),
    Nested(Props),
    List(Vec<Props>),
}

impl Props {
    pub fn new() -> Self {
        Self::default()
    }

    /// `{"driver": driver, "id": id}`, the start of every device.
    pub fn device(driver: &str, id: &str) -> Self {
        Props::new().set("driver", driver).set("id", id)
    }

    /// `{"qom-type": kind, "id": id}`, the start of every object.
    pub fn object(kind: &str, id: &str) -> Self {
        Props::new().set("qom-type", kind).set("id", id)
    }

    /// Adds a string, number or boolean.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.push((key.to_string(), PropValue::Plain(value.into())));
        self
    }

    /// Adds a value if there is one.
    pub fn set_opt(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    /// Adds `on`/`off` as libvirt's JSON has it for enumerations that merely look boolean (`OnOffAuto`, disk options).
    pub fn on_off(self, key: &str, value: Option<bool>) -> Self {
        self.set_opt(key, value.map(|on| if on { "on" } else { "off" }))
    }

    /// Adds an object.
    pub fn nest(mut self, key: &str, value: Props) -> Self {
        self.0.push((key.to_string(), PropValue::Nested(value)));
        self
    }

    /// Adds a list of objects.
    pub fn list(mut self, key: &str, values: Vec<Props>) -> Self {
        self.0.push((key.to_string(), PropValue::List(values)));
        self
    }

    /// Adds all of another.
    pub fn join(mut self, other: Props) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The text for the command line.
    pub fn json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        out.push('{');
        for (index, (key, value)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            let _ = write!(out, "{}:", Value::from(key.as_str()));
            match value {
                PropValue::Plain(value) => {
                    let _ = write!(out, "{value}");
                }
                PropValue::Nested(props) => props.write(out),
                PropValue::List(list) => {
                    out.push('[');
                    for (index, props) in list.iter().enumerate() {
                        if index > 0 {
                            out.push(',');
                        }
                        props.write(out);
                    }
                    out.push(']');
                }
            }
        }
        out.push('}');
    }
}

/// A `first,key=value,...` option under construction. Commas in values are doubled as QEMU wants it.
#[derive(Clone, Debug, Default)]
pub struct Pairs(String);

impl Pairs {
    /// Starts with a bare word.
    pub fn new(first: impl AsRef<str>) -> Self {
        Pairs(escape(first.as_ref()))
    }

    /// Starts with a key.
    pub fn with(key: &str, value: impl std::fmt::Display) -> Self {
        Pairs(format!("{key}={}", escape(&value.to_string())))
    }

    /// Adds `key=value`.
    pub fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        let _ = write!(self.0, "{key}={}", escape(&value.to_string()));
        self
    }

    /// Adds `key=value` if there is one.
    pub fn set_opt(self, key: &str, value: Option<impl std::fmt::Display>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    /// Adds `key=on|off`.
    pub fn on_off(self, key: &str, on: bool) -> Self {
        self.set(key, if on { "on" } else { "off" })
    }

    /// Adds a bare word.
    pub fn word(mut self, word: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(&escape(word));
        self
    }

    /// The text for the command line.
    pub fn text(self) -> String {
        self.0
    }
}

fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_escapes() {
        let props = Props::device("virtio-blk-pci", "virtio-disk0")
            .set("bootindex", 1)
            .nest("cache", Props::new().set("direct", true).set("no-flush", false))
            .set_opt("serial", None::<&str>)
            .set("path", "a\"b");
        assert_eq!(
            props.json(),
            r#"{"driver":"virtio-blk-pci","id":"virtio-disk0","bootindex":1,"cache":{"direct":true,"no-flush":false},"path":"a\"b"}"#
        );
        assert_eq!(Pairs::with("guest", "a,b").on_off("debug-threads", true).text(), "guest=a,,b,debug-threads=on");
        assert_eq!(Pairs::new("pc").set("usb", "off").text(), "pc,usb=off");
    }
}
