//! libvirt's typed parameters (`virTypedParameter`): an ordered list of named, typed values.

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
