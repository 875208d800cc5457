//! Shapes that serde alone does not give: libvirt-dbus's double variants and dictionaries built from lists.
//!
//! `GetAll` and every typed-parameter result carry each value as a variant inside the dictionary's variant. That is API:
//! Cockpit insists on it. In arguments and `Get` are wrapped once.

use std::collections::HashMap;
use std::fmt;

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};
use zbus::{OwnedVariant, Signature, Type, Variant};

use super::fault::Fault;

use crate::types::{ParamValue, TypedParams};

const VARIANT: &Signature = &Signature::Variant;
const DICT: &Signature = &Signature::static_dict(&Signature::Str, VARIANT);

/// A variant that holds `T`, itself a variant.
#[derive(Debug)]
pub struct Wrapped<T>(pub T);

impl<T: Serialize> Serialize for Wrapped<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The serializer's form of a variant: its signature, then its value.
        let mut out = serializer.serialize_struct("Variant", 2)?;
        out.serialize_field("signature", VARIANT)?;
        out.serialize_field("value", &self.0)?;
        out.end()
    }
}

impl<T> Type for Wrapped<T> {
    const SIGNATURE: &'static Signature = VARIANT;
}

/// One typed parameter's value as a variant, without copying it.
struct Param<'p>(&'p ParamValue);

impl Serialize for Param<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Variant", 2)?;
        macro_rules! value {
            ($signature:ident, $value:expr) => {{
                out.serialize_field("signature", &Signature::$signature)?;
                out.serialize_field("value", $value)?;
            }};
        }
        match self.0 {
            ParamValue::Int(value) => value!(I32, value),
            ParamValue::Uint(value) => value!(U32, value),
            ParamValue::Llong(value) => value!(I64, value),
            ParamValue::Ullong(value) => value!(U64, value),
            ParamValue::Double(value) => value!(F64, value),
            ParamValue::Bool(value) => value!(Bool, value),
            ParamValue::Str(value) => value!(Str, value),
        }
        out.end()
    }
}

/// Typed parameters as `a{sv}` with double variants.
#[derive(Debug)]
pub struct Params(pub TypedParams);

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.0.len()))?;
        for (name, value) in &self.0.0 {
            map.serialize_entry(name, &Wrapped(Param(value)))?;
        }
        map.end()
    }
}

impl Type for Params {
    const SIGNATURE: &'static Signature = DICT;
}

/// Typed parameters as `a{sv}` as everybody else writes it, for our own interfaces.
#[derive(Debug)]
pub struct PlainParams(pub TypedParams);

impl Serialize for PlainParams {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.0.iter().map(|(name, value)| (name, Param(value))))
    }
}

impl Type for PlainParams {
    const SIGNATURE: &'static Signature = DICT;
}

/// Properties as `a{sv}` with double variants.
#[derive(Debug)]
pub struct Properties<'n>(pub Vec<(&'n str, Variant<'static>)>);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, &Wrapped(value))?;
        }
        map.end()
    }
}

impl Type for Properties<'_> {
    const SIGNATURE: &'static Signature = DICT;
}

/// Properties as `a{sv}` as everybody else writes it, for our own interfaces.
#[derive(Debug)]
pub struct PlainProperties<'v>(pub &'v [(&'v str, Variant<'static>)]);

impl Serialize for PlainProperties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Type for PlainProperties<'_> {
    const SIGNATURE: &'static Signature = DICT;
}

macro_rules! list_dict {
    ($name:ident, $key:ty, $value:ty, $key_signature:ident, $value_signature:ident, $text:literal) => {
        #[doc = $text]
        #[derive(Debug)]
        pub struct $name(pub Vec<($key, $value)>);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some(self.0.len()))?;
                for (key, value) in &self.0 {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }

        impl Type for $name {
            const SIGNATURE: &'static Signature =
                &Signature::static_dict(&Signature::$key_signature, &Signature::$value_signature);
        }
    };
}

list_dict!(Counters, String, u64, Str, U64, "Named counters as `a{st}`.");
list_dict!(Tags, i32, u64, I32, U64, "Numbered values as `a{it}`.");

/// An object path made by [`super::path`], which makes only valid ones.
#[derive(Clone, PartialEq, Eq)]
pub struct Path(pub String);

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Type for Path {
    const SIGNATURE: &'static Signature = &Signature::ObjectPath;
}

/// Typed parameters from a client: `a{sv}`, in which clients also send variants inside the variants.
/// Errors: invalid arguments, for a value no typed parameter can hold.
pub fn params(given: HashMap<String, OwnedVariant>) -> Result<TypedParams, Fault> {
    fn value(variant: &Variant<'_>) -> Option<ParamValue> {
        Some(match variant {
            Variant::Variant(inner) => return value(inner),
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
    let mut params = TypedParams::new();
    for (name, variant) in given {
        match value(&variant) {
            Some(value) => params.push(name, value),
            None => return Err(Fault::invalid_args(format!("'{name}' is no number, boolean or string"))),
        }
    }
    // A dictionary has no order; errors about the first wrong one should not change from call to call.
    params.0.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(params)
}

/// libvirt-dbus's habit: "" stands for NULL.
pub fn optional(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::Message;

    #[test]
    fn typed_parameters_are_wrapped_twice() {
        let mut params = TypedParams::new();
        params.int("state.state", 1);
        params.ullong("cpu.time", 7);
        params.string("net.0.name", "tap0");
        params.push("d", ParamValue::Double(1.5));
        params.push("b", ParamValue::Bool(true));
        let message = Message::signal("/", "a.b", "c").build(&(Params(params),)).unwrap();
        assert!(message.body().deserialize::<zbus::Structure<'_>>().is_ok());
        assert_eq!(message.body().signature(), &"a{sv}");
        let body = message.body();
        let map: HashMap<String, OwnedVariant> = body.deserialize().unwrap();
        let inner = |name: &str| match &*map[name] {
            Variant::Variant(inner) => Variant::from(inner.try_to_owned().unwrap()),
            other => panic!("{name} is wrapped once: {other:?}"),
        };
        assert_eq!(inner("state.state"), Variant::I32(1));
        assert_eq!(inner("cpu.time"), Variant::U64(7));
        assert_eq!(inner("net.0.name"), Variant::from("tap0"));
        assert_eq!(inner("d"), Variant::F64(1.5));
        assert_eq!(inner("b"), Variant::Bool(true));
    }

    #[test]
    fn records_of_all_domains() {
        let mut params = TypedParams::new();
        params.int("x", 1);
        let records = vec![("a".to_string(), Params(params.clone())), ("b".to_string(), Params(params))];
        let message = Message::signal("/", "a.b", "c").build(&(records,)).unwrap();
        assert!(message.body().deserialize::<zbus::Structure<'_>>().is_ok());
        assert_eq!(message.body().signature(), &"a(sa{sv})");
    }

    #[test]
    fn plain_dictionaries() {
        let counters = Counters(vec![("total".into(), 1)]);
        let message = Message::signal("/", "a.b", "c").build(&(counters, Tags(vec![(4, 2)]))).unwrap();
        assert!(message.body().deserialize::<zbus::Structure<'_>>().is_ok());
        assert_eq!(message.body().signature(), &"a{st}a{it}");
    }

    #[test]
    fn a_descriptor_travels_with_its_message() {
        let fd = std::os::fd::OwnedFd::from(std::io::pipe().unwrap().0);
        let message = Message::signal("/", "a.b", "c").build(&zbus::OwnedFd::from(fd)).unwrap();
        assert_eq!(message.body().signature(), &"h");
        assert_eq!(message.data().fds().len(), 1);
    }
}
