//! `compression` of a service or a pool.

use evenkeel_model::{Coding, Compression, Mode};

use super::Builder;
use crate::section::Section;

/// What is said of answers that are compressed.
pub(super) fn read(table: Section<'_>) -> Option<Compression> {
    let table = table.section("compression")?;
    let mut codings: Vec<Coding> = Vec::new();
    for coding in table.texts("codings").iter().filter_map(|word| Coding::parse(word)) {
        if !codings.contains(&coding) {
            codings.push(coding);
        }
    }
    Some(Compression {
        codings: match table.value("codings") {
            Some(_) => codings,
            None => vec![Coding::Gzip],
        },
        types: match table.value("types") {
            Some(_) => table.texts("types"),
            None => Compression::TYPES.iter().map(|of| (*of).to_owned()).collect(),
        },
        min_size: table.size("min-size", 0),
        offload: table.flag("offload"),
    })
}

impl Builder<'_> {
    pub(super) fn compression_of_service(&mut self, table: Section<'_>, mode: Mode) -> Option<Compression> {
        let read = read(table);
        if read.is_some() && mode == Mode::Tcp {
            self.problem(
                table.span("compression"),
                "`compression` changes answers, which mode \"tcp\" does not read".into(),
                "use mode = \"http\", or remove it",
            );
        }
        read
    }
}
