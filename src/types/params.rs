//! libvirt's typed parameters (`virTypedParameter`): an ordered list of named, typed values.

use crate::error::{Code, Error, Result};

/// One value. The D-Bus type is in brackets.
#[derive(Clone, Debug, PartialEq)]
pub enum ParamValue {
    /// `VIR_TYPED_PARAM_INT` (1) [i]
    Int(i32),
    /// `VIR_TYPED_PARAM_UINT` (2) [u]
    Uint(u32),
    /// `VIR_TYPED_PARAM_LLONG` (3) [x]
    Llong(i64),
    /// `VIR_TYPED_PARAM_ULLONG` (4) [t]
    Ullong(u64),
    /// `VIR_TYPED_PARAM_DOUBLE` (5) [d]
    Double(f64),
    /// `VIR_TYPED_PARAM_BOOLEAN` (6) [b]
    Bool(bool),
    /// `VIR_TYPED_PARAM_STRING` (7) [s]
    Str(String),
}

/// An ordered list of typed parameters; names may repeat as in libvirt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TypedParams(pub Vec<(String, ParamValue)>);

impl TypedParams {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a value.
    pub fn push(&mut self, name: impl Into<String>, value: ParamValue) {
        self.0.push((name.into(), value));
    }

    /// Appends an `int`.
    pub fn int(&mut self, name: impl Into<String>, value: i32) {
        self.push(name, ParamValue::Int(value));
    }

    /// Appends an `unsigned int`.
    pub fn uint(&mut self, name: impl Into<String>, value: u32) {
        self.push(name, ParamValue::Uint(value));
    }

    /// Appends an `unsigned long long`.
    pub fn ullong(&mut self, name: impl Into<String>, value: u64) {
        self.push(name, ParamValue::Ullong(value));
    }

    /// Appends a `long long`.
    pub fn llong(&mut self, name: impl Into<String>, value: i64) {
        self.push(name, ParamValue::Llong(value));
    }

    /// Appends a string.
    pub fn string(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.push(name, ParamValue::Str(value.into()));
    }

    /// The first value with this name.
    pub fn get(&self, name: &str) -> Option<&ParamValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Appends all of `other`.
    pub fn extend(&mut self, other: TypedParams) {
        self.0.extend(other.0);
    }
}

/// A type of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    Int,
    Uint,
    Llong,
    Ullong,
    Double,
    Bool,
    Str,
}

impl ParamKind {
    /// libvirt's word for it.
    pub fn word(self) -> &'static str {
        match self {
            ParamKind::Int => "int",
            ParamKind::Uint => "uint",
            ParamKind::Llong => "llong",
            ParamKind::Ullong => "ullong",
            ParamKind::Double => "double",
            ParamKind::Bool => "boolean",
            ParamKind::Str => "string",
        }
    }
}

impl ParamValue {
    /// Its type.
    pub fn kind(&self) -> ParamKind {
        match self {
            ParamValue::Int(_) => ParamKind::Int,
            ParamValue::Uint(_) => ParamKind::Uint,
            ParamValue::Llong(_) => ParamKind::Llong,
            ParamValue::Ullong(_) => ParamKind::Ullong,
            ParamValue::Double(_) => ParamKind::Double,
            ParamValue::Bool(_) => ParamKind::Bool,
            ParamValue::Str(_) => ParamKind::Str,
        }
    }
}

/// Refuses what `known` does not name, what has another type, and what comes twice. Errors: codes 84 and 8.
pub fn check_params(params: &TypedParams, known: &[(&str, ParamKind)]) -> Result<()> {
    for (index, (name, value)) in params.0.iter().enumerate() {
        let Some((_, kind)) = known.iter().find(|(other, _)| other == name) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let detail = format!("parameter '{name}' not supported; known are {}", names.join(", "));
            return Err(Error::new(Code::OperationUnsupported, detail));
        };
        if value.kind() != *kind {
            let (got, expected) = (value.kind().word(), kind.word());
            return Err(Error::invalid_arg(format!(
                "invalid type '{got}' for parameter '{name}', expected '{expected}'"
            )));
        }
        if params.0[..index].iter().any(|(other, _)| other == name) {
            return Err(Error::invalid_arg(format!("parameter '{name}' occurs multiple times")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_and_once() {
        let known = [("a", ParamKind::Uint), ("b", ParamKind::Str)];
        let params = |list: &[(&str, ParamValue)]| {
            TypedParams(list.iter().map(|(name, value)| (name.to_string(), value.clone())).collect())
        };
        assert!(
            check_params(&params(&[("b", ParamValue::Str("x".into())), ("a", ParamValue::Uint(1))]), &known).is_ok()
        );
        let error = check_params(&params(&[("a", ParamValue::Int(1))]), &known).unwrap_err();
        assert_eq!(error.detail, "invalid type 'int' for parameter 'a', expected 'uint'");
        let error = check_params(&params(&[("c", ParamValue::Int(1))]), &known).unwrap_err();
        assert_eq!(error.code, Code::OperationUnsupported);
        let twice = params(&[("a", ParamValue::Uint(1)), ("a", ParamValue::Uint(2))]);
        assert!(check_params(&twice, &known).is_err());
    }
}
