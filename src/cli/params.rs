//! Typed parameters and properties as they come over D-Bus (`a{sv}`), in the order the daemon sent them.
//!
//! libvirt-dbus wraps each value in two variants; any depth is unwrapped here.

use std::collections::HashMap;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use zbus::{OwnedVariant, Signature, Type, Variant};

use crate::types::{ParamValue, TypedParams};

/// A dictionary of named values.
#[derive(Clone, Debug, Default)]
pub struct Params(pub TypedParams);

impl Params {
    /// The value as an unsigned number, if it is there and is one.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            ParamValue::Int(value) => u64::try_from(*value).ok(),
            ParamValue::Uint(value) => Some(u64::from(*value)),
            ParamValue::Llong(value) => u64::try_from(*value).ok(),
            ParamValue::Ullong(value) => Some(*value),
            _ => None,
        }
    }

    /// The value as text, if it is there and is one.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            ParamValue::Str(value) => Some(value),
            _ => None,
        }
    }

    /// The value as a boolean, if it is there and is one.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.0.get(name)? {
            ParamValue::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// As a JSON object.
    pub fn json(&self) -> Value {
        Value::Object(self.0.0.iter().map(|(name, value)| (name.clone(), json(value))).collect::<Map<_, _>>())
    }
}

impl Type for Params {
    const SIGNATURE: &'static Signature = <HashMap<String, OwnedVariant>>::SIGNATURE;
}

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ordered;
        impl<'de> Visitor<'de> for Ordered {
            type Value = Params;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a dictionary of variants")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Params, M::Error> {
                let mut params = TypedParams::new();
                while let Some((name, value)) = map.next_entry::<String, OwnedVariant>()? {
                    if let Some(value) = scalar(&value) {
                        params.push(name, value);
                    }
                }
                Ok(Params(params))
            }
        }
        deserializer.deserialize_map(Ordered)
    }
}

/// The plain value inside any number of variants; `None` for a container, which typed parameters cannot hold.
pub fn scalar(value: &Variant<'_>) -> Option<ParamValue> {
    Some(match value {
        Variant::Variant(inner) => return scalar(inner),
        Variant::I32(value) => ParamValue::Int(*value),
        Variant::U32(value) => ParamValue::Uint(*value),
        Variant::I64(value) => ParamValue::Llong(*value),
        Variant::U64(value) => ParamValue::Ullong(*value),
        Variant::F64(value) => ParamValue::Double(*value),
        Variant::Bool(value) => ParamValue::Bool(*value),
        Variant::Str(value) => ParamValue::Str(value.to_string()),
        _ => return None,
    })
}

/// As virsh prints it: `yes` and `no`, six digits after the point.
pub fn text(value: &ParamValue) -> String {
    match value {
        ParamValue::Int(value) => value.to_string(),
        ParamValue::Uint(value) => value.to_string(),
        ParamValue::Llong(value) => value.to_string(),
        ParamValue::Ullong(value) => value.to_string(),
        ParamValue::Double(value) => format!("{value:.6}"),
        ParamValue::Bool(value) => if *value { "yes" } else { "no" }.to_owned(),
        ParamValue::Str(value) => value.clone(),
    }
}

fn json(value: &ParamValue) -> Value {
    match value {
        ParamValue::Int(value) => Value::from(*value),
        ParamValue::Uint(value) => Value::from(*value),
        ParamValue::Llong(value) => Value::from(*value),
        ParamValue::Ullong(value) => Value::from(*value),
        ParamValue::Double(value) => Value::from(*value),
        ParamValue::Bool(value) => Value::from(*value),
        ParamValue::Str(value) => Value::from(value.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use zbus::wire::{LE, serialized::Context, to_bytes};

    use super::*;

    #[test]
    fn double_variants_are_unwrapped_and_order_is_kept() {
        let double = |value: Variant<'static>| Variant::Variant(Box::new(value));
        let sent: Vec<(&str, Variant<'_>)> =
            vec![("z", double(Variant::U64(7))), ("a", double(Variant::from("text"))), ("m", Variant::Bool(true))];
        // A dictionary has the layout of an array of (key, value) structures.
        let bytes = to_bytes(Context::new(LE, 0), &sent).unwrap();
        let (params, _): (Params, _) = bytes.deserialize().unwrap();
        let names: Vec<&str> = params.0.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["z", "a", "m"]);
        assert_eq!(params.number("z"), Some(7));
        assert_eq!(params.text("a"), Some("text"));
        assert_eq!(params.flag("m"), Some(true));
    }

    #[test]
    fn values_print_as_in_virsh() {
        assert_eq!(text(&ParamValue::Bool(true)), "yes");
        assert_eq!(text(&ParamValue::Double(1.5)), "1.500000");
        assert_eq!(text(&ParamValue::Llong(-3)), "-3");
    }
}
