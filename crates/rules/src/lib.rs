//! The language of routes: conditions (`when = 'path("/api/*") && method("GET")'`), texts with
//! variables in them (`https://www.example.org{path}`), lists and maps.
//!
//! In: text, facts about a request or connection. Out: true or false, bytes, the reasons.
//! Never: a file, a socket, a clock. Lists are loaded by the caller.

/// What was parsed is equal to what is written alike, and shows its text: two configurations are
/// compared by it.
macro_rules! written_alike {
    ($type:ident, $source:ident) => {
        impl PartialEq for $type {
            fn eq(&self, other: &$type) -> bool {
                self.$source == other.$source
            }
        }

        impl Eq for $type {}

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", self.$source)
            }
        }
    };
}
pub(crate) use written_alike;

mod convert;
mod evaluate;
mod fetch;
mod first;
mod gate;
mod hash;
mod json;
mod lexer;
mod line;
mod map;
mod mask;
mod names;
mod number;
mod parse;
mod path;
mod pattern;
mod regular;
mod spelling;
mod template;
mod token;
mod uri;
mod wants;

pub use convert::{CONVERTERS, ConverterDoc, MapLoader, unbase64};
pub use evaluate::{Captures, Expression, Facts, Leaf, LocalTime, PathGate, PathStart};
pub use fetch::{FUNCTIONS, Fetch, Function, NeedsHttp, VARIABLES, Variable};
pub use first::{FIRST_BYTES, FirstBytes};
pub use gate::{Part, Texts};
pub use line::{LINE_FIELDS, LineField, LineFieldDoc, LineFormat, LinePart};
pub use map::{Content, Map, MapError, MapForm, MapMatch};
pub use names::FieldNames;
pub use parse::{ParseError, check_regex};
pub use path::{Parameters, is_unclear_path, normal_host, normal_path, writable_target};
pub use pattern::{ListForm, NetworkSet, PatternSet, is_named, is_named_alike, read_networks, read_patterns};
pub use regular::{regex, regex_set};
pub use template::Template;
pub use uri::value_of;
pub use wants::Wants;

#[cfg(test)]
mod tests;
