//! Who a request says that it is of: passwords and tokens in its `Authorization`, as texts with variables.

use super::sample::{argument, variable};

/// What stands behind the name of a scheme, nothing for another one: an empty text has no words.
fn of_scheme(header: &str, scheme: &str) -> String {
    format!("{{last-header:{header}|replace(\"^(?i:{scheme}) +(.*)$|^.*$\",\"$1\")|word(1,\" \")")
}

/// `http_auth_…` of a header, which is `Authorization` where none is named.
pub fn source(name: &str, header: &str) -> Option<String> {
    let named = if header.is_empty() { "Authorization" } else { header };
    let of_password = |part: &str| of_scheme(named, "Basic") + "|base64-decode|" + part + "}";
    Some(match name {
        "http_auth_bearer" => of_scheme(named, "Bearer") + "}",
        "http_auth_type" if header.is_empty() => format!(
            "{{last-header:{named}|word(1,\" \")|lower|choose(\"basic\",\"Basic\",\"bearer\",\"Bearer\")}}"
        ),
        "http_auth_user" if header.is_empty() => {
            of_password("replace(\"^([^:]*):(?s:.*)$|^(?s:.*)$\",\"$1\")")
        }
        "http_auth_pass" if header.is_empty() => of_password("field(2,\":\",0)"),
        _ => return None,
    })
}

/// `jwt_…` with its arguments.
pub fn converter(name: &str, words: &[&str]) -> Option<Result<String, String>> {
    let part = match name {
        "jwt_header_query" => 1,
        "jwt_payload_query" => 2,
        "jwt_verify" | "jwt_verify_cert" => return Some(verify(name, words)),
        _ => return None,
    };
    let decoded = format!("field({part},\".\")|base64url-decode");
    Some(Ok(match words {
        [] => decoded,
        [path] | [path, "int"] => format!("{decoded}|json-query({})", argument(path)),
        _ => return None,
    }))
}

/// The algorithm is a word or a variable. So is the key, which of HS256 and its like is a secret, else the file of
/// a public key: where a variable says which algorithm it is, a key with a `/` is a file, and a token that
/// names an algorithm with a secret is not signed for it.
fn verify(name: &str, words: &[&str]) -> Result<String, String> {
    let [algorithm, key] = words else { return Err(format!("{name} has an algorithm and a key")) };
    let of_variable = variable(algorithm).ok();
    let is_file = match of_variable {
        None => !algorithm.starts_with("HS"),
        Some(_) => name == "jwt_verify_cert" || key.contains('/'),
    };
    if of_variable.is_none() && *algorithm == "none" {
        return Err("a token without a signature proves nothing".into());
    }
    let algorithm = of_variable
        .map_or_else(|| argument(algorithm), |variable| argument(&format!("{{variable:{variable}}}")));
    if is_file {
        return match variable(key) {
            Ok(_) => Err(format!("{name} has the name of a file, not a variable")),
            Err(_) => Ok(format!("jwt-verify({algorithm},{})", argument(key))),
        };
    }
    let secret = match variable(key) {
        Ok(variable) => format!("{{variable:{variable}}}"),
        Err(_) => key.replace('{', "{{").replace('}', "}}"),
    };
    Ok(format!("jwt-verify-secret({algorithm},{})", argument(&secret)))
}
