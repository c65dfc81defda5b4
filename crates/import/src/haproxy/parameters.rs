//! Parameters of requests that are named otherwise than by their name alone.

use super::sample;

/// `url_param(NAME,,i)`: the first parameter of the name, however its letters are written. The last alternative takes
/// everything, and the group is empty.
pub fn named(name: &str, more: &str) -> Result<String, String> {
    let (sign, flag) = more.split_once(',').unwrap_or((more, ""));
    if !["", "?"].contains(&sign.trim()) {
        return Err("parameters behind another sign than `?` are not carried over".into());
    }
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) {
        return Err(format!("{name:?} is no name of a parameter"));
    }
    match flag.trim() {
        "" => Ok(format!("{{query:{name}}}")),
        "i" => {
            let regex = format!("^(?:[^&]*&)*?(?i:{name})=([^&]*).*$|^.*$");
            Ok(format!("{{query|replace({},\"$1\")}}", sample::argument(&regex)))
        }
        _ => Err(format!("'{flag}' is not 'i', which takes a name in any case")),
    }
}

#[cfg(test)]
mod tests {
    use crate::haproxy::sample::variables;

    #[test]
    fn names_in_any_case() {
        let check = |text: &str, expect: &str| assert_eq!(variables(text).as_deref(), Ok(expect), "{text}");
        check("%[url_param(a,?)]", "{query:a}");
        let regex = "^(?:[^&]*&)*?(?i:a_b)=([^&]*).*$|^.*$";
        check("%[url_param(a_b,,i),lower]", &format!("{{query|replace(\"{regex}\",\"$1\")|lower}}"));
        for bad in ["%[url_param(a,;)]", "%[url_param(a,,x)]", "%[url_param(,,i)]", "%[urlp(a.b,,i)]"] {
            assert!(variables(bad).is_err(), "{bad}");
        }
    }
}
