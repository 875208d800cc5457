//! The two macros the model is declared with: closed vocabularies ([`words!`]) and elements that are a flat set of
//! attributes ([`attrs!`]). Owns the text form of every enum; decides nothing about meaning.

/// A word that is not in the vocabulary it was read for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is none of {}", known.join(", "))]
pub struct UnknownWord {
    /// What was given.
    pub given: String,
    /// What there is.
    pub known: &'static [&'static str],
}

/// Declares an enum with one text form per variant: `as_str`, `FromStr`, `Display`, `ALL`, `WORDS`.
/// The first variant is the `Default`.
macro_rules! words {
    ($($(#[$meta:meta])* pub enum $name:ident { $first:ident = $fword:literal $(, $variant:ident = $word:literal)* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { #[default] $first $(, $variant)* }

        impl $name {
            /// Every variant, in libvirt's order.
            pub const ALL: &'static [$name] = &[$name::$first $(, $name::$variant)*];
            /// The word of every variant, in the same order.
            pub const WORDS: &'static [&'static str] = &[$fword $(, $word)*];

            /// libvirt's word.
            pub const fn as_str(self) -> &'static str {
                match self { $name::$first => $fword $(, $name::$variant => $word)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain_xml::words::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $fword => Ok($name::$first),
                    $($word => Ok($name::$variant),)*
                    _ => Err($crate::domain_xml::words::UnknownWord { given: word.to_string(), known: Self::WORDS }),
                }
            }
        }

        impl $crate::xml::Value for $name {
            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn known() -> &'static [&'static str] {
                Self::WORDS
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

/// Declares a struct whose every field is one optional attribute of one element, in the order they are written.
macro_rules! attrs {
    ($($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$fmeta:meta])* $field:ident: $ty:ty = $attr:literal),* $(,)?
    })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name { $($(#[$fmeta])* pub $field: Option<$ty>),* }

        impl $name {
            /// Reads the attributes of `node`. Error: code 27.
            pub(crate) fn read(node: $crate::xml::Node<'_>) -> $crate::error::Result<Self> {
                Ok(Self { $($field: node.attr_value($attr)?),* })
            }

            /// Writes the attributes that are there to the open element.
            pub(crate) fn write_attrs(&self, w: &mut $crate::xml::Writer) {
                $(w.attr_opt($attr, self.$field.as_ref());)*
            }

            /// Writes an element with the attributes, or nothing when there are none.
            #[allow(dead_code)]
            pub(crate) fn write(&self, name: &'static str, w: &mut $crate::xml::Writer) {
                w.element_unless_empty(name, |w| self.write_attrs(w));
            }
        }
    )*};
}

pub(crate) use {attrs, words};

words! {
    /// `on` / `off` (`virTristateSwitch`).
    pub enum Switch { On = "on", Off = "off" }

    /// `yes` / `no` (`virTristateBool`).
    pub enum YesNo { Yes = "yes", No = "no" }
}

impl Switch {
    /// Whether it is `on`.
    pub fn is_on(self) -> bool {
        self == Switch::On
    }
}

impl From<bool> for Switch {
    fn from(on: bool) -> Self {
        if on { Switch::On } else { Switch::Off }
    }
}

impl YesNo {
    /// Whether it is `yes`.
    pub fn is_yes(self) -> bool {
        self == YesNo::Yes
    }
}

impl From<bool> for YesNo {
    fn from(yes: bool) -> Self {
        if yes { YesNo::Yes } else { YesNo::No }
    }
}

/// `<name state='on'/>`, when there is a state.
pub(crate) fn write_state(w: &mut crate::xml::Writer, name: &'static str, state: Option<Switch>) {
    if let Some(state) = state {
        w.element(name, |w| w.attr("state", state));
    }
}
