//! Lists of users, and who is asked for a name and a password.

use crate::draft::{Table, User, Userlist, Userlists, Value};
use crate::words::is_token;

/// What stands in a condition for a test of who asks; no condition of Evenkeel has it.
const MARK: &str = "http_auth:";

/// One line of a `userlist`.
pub fn line(words: &[String], list: &mut Userlist) -> Result<(), String> {
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["user", name, rest @ ..] => {
            let after = |key: &str| rest.iter().skip_while(|w| **w != key).nth(1).copied();
            let hash = after("password").filter(|h| ["$2", "$5$", "$6$"].iter().any(|p| h.starts_with(p)));
            let secret = match (hash, after("insecure-password")) {
                (Some(hash), _) => hash.to_owned(),
                (None, Some(plain)) => format!("plain:{plain}"),
                (None, None) => {
                    return Err(format!("{name}: only hashes of bcrypt and SHA-crypt are carried over"));
                }
            };
            if !is_token(name) {
                return Err(format!("{name}: such a name is not carried over"));
            }
            let groups = after("groups").unwrap_or("").split(',').filter(|g| !g.is_empty());
            let groups = groups.map(str::to_owned).collect();
            list.users.push(User { name: (*name).to_owned(), secret, groups });
            Ok(())
        }
        ["group", name, "users", members] => {
            list.members.extend(members.split(',').map(|member| ((*name).to_owned(), member.to_owned())));
            Ok(())
        }
        ["group", _] => Ok(()),
        _ => Err("not carried over".into()),
    }
}

/// The test `http_auth(LIST)` or `http_auth_group(LIST) GROUP…` as it stands in a condition until
/// its rule is known.
pub fn test(list: &str, groups: &[&str]) -> String {
    format!("{MARK}{list}:{}", groups.join(","))
}

pub fn is_in(condition: &str) -> bool {
    condition.contains(MARK)
}

/// `http-request auth`: the keys of `basic-auth`, and what is left of its condition.
pub fn basic_auth(condition: &str, realm: &str, lists: &Userlists) -> Result<(Table, String), String> {
    let mut rest = Vec::new();
    let mut asked = None;
    for part in condition.split(" && ") {
        match part.strip_prefix('!').and_then(|test| test.strip_prefix(MARK)) {
            Some(test) if asked.is_none() => asked = test.split_once(':'),
            _ => rest.push(part),
        }
    }
    let rest = rest.join(" && ");
    let (list, groups) =
        asked.ok_or("it is carried over where it asks those that !http_auth(LIST) does not know")?;
    if is_in(&rest) || rest.contains("||") {
        return Err("its condition is carried over as `… !http_auth(LIST)` alone".into());
    }
    let groups: Vec<&str> = groups.split(',').filter(|g| !g.is_empty()).collect();
    let known = lists.get(list).ok_or_else(|| format!("there is no userlist {list}"))?;
    let fits = |user: &&User| {
        let member = |group: &&str| {
            user.groups.iter().any(|g| g == group)
                || known.members.iter().any(|(g, member)| g == group && *member == user.name)
        };
        groups.is_empty() || groups.iter().any(member)
    };
    let accounts: Vec<(String, String)> =
        known.users.iter().filter(fits).map(|user| (user.name.clone(), user.secret.clone())).collect();
    if accounts.is_empty() {
        return Err(format!("nobody of the userlist {list} may come in"));
    }
    let auth = Table::default().with("accounts", Value::names(accounts)).with_text("realm", realm);
    Ok((auth, rest))
}
