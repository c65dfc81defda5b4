//! `AuthType Basic` with a file of users, as `basic-auth`.

use super::super::Words;
use crate::draft::Table;
use crate::words::quoted;

/// What sections say of passwords; a later one adds to what an earlier one said.
#[derive(Clone, Debug, Default)]
pub struct Login {
    kind: Option<String>,
    realm: Option<String>,
    file: Option<String>,
    /// The first word that has no counterpart.
    odd: Option<String>,
    /// Where files are looked for that have no folder.
    server_root: Option<String>,
}

/// Who of a file may come in: all of them, or those who are named.
#[derive(Clone, Debug, PartialEq)]
pub struct Users {
    realm: String,
    file: String,
    names: Vec<String>,
}

impl Login {
    pub fn at(server_root: Option<String>) -> Login {
        Login { server_root, ..Login::default() }
    }

    pub fn take(&mut self, rules: &[Words]) {
        for (_, words) in rules {
            let keyword = words[0].to_lowercase();
            let value = words.get(1).cloned().unwrap_or_default();
            match keyword.as_str() {
                "authtype" => self.kind = Some(value.to_lowercase()),
                "authname" => self.realm = Some(value),
                "authuserfile" => {
                    let root = self.server_root.as_ref();
                    self.file = Some(crate::draft::based(root, &value)).filter(|file| file.starts_with('/'));
                }
                "authbasicprovider" if words.len() == 2 && value.eq_ignore_ascii_case("file") => {}
                "authbasicauthoritative" if value.eq_ignore_ascii_case("on") => {}
                // A group that is asked for is told where it is.
                "authgroupfile" | "authmerging" => {}
                word if word.starts_with("auth") => self.odd = self.odd.take().or(Some(words.join(" "))),
                _ => {}
            }
        }
    }

    pub fn is_known(&self) -> bool {
        self.kind.as_deref() == Some("basic") && self.file.is_some() && self.odd.is_none()
    }

    /// Why nobody can be asked for a password.
    pub fn why(&self) -> String {
        match (&self.odd, self.kind.as_deref()) {
            (Some(odd), _) => format!("{odd} has no counterpart"),
            (_, None) => "no AuthType says how users are asked".into(),
            (_, Some("basic")) => "no AuthUserFile names its users with its whole path".into(),
            (_, Some(other)) => format!("AuthType {other} has no counterpart"),
        }
    }

    /// The users of all lists that were met; `None` where there is none.
    pub fn users(&self, lists: &[Vec<String>]) -> Result<Option<Users>, String> {
        let Some(first) = lists.first() else { return Ok(None) };
        if lists.iter().any(|list| list != first) {
            return Err("several lists of users are asked for".into());
        }
        let realm = self.realm.clone().unwrap_or_else(|| "restricted".into());
        let file = self.file.clone().unwrap_or_default();
        // `valid-user` has no names.
        Ok(Some(Users { realm, file, names: first.clone() }))
    }
}

impl Users {
    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn ask(&self, route: &mut Table) {
        let auth = Table::default().with_text("users", &self.file).with_text("realm", &self.realm);
        route.set("basic-auth", auth);
    }

    /// Holds for those of the file who are not meant.
    pub fn others(&self) -> Option<String> {
        if self.names.is_empty() {
            return None;
        }
        let names: Vec<String> =
            self.names.iter().map(|name| super::super::redirect::escaped(name)).collect();
        let name = "{header:Authorization|replace(\\\"^[^ ]+ +\\\",\\\"\\\")|base64-decode}";
        Some(format!("!(text(\"{name}\") =~ {})", quoted(&format!("^(?:{}):", names.join("|")))))
    }
}
