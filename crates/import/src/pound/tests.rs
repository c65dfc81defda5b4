use crate::{Severity, SourceKind};

/// What comes of a file; it is a configuration.
fn made(text: &str) -> crate::Imported {
    crate::tests::made(SourceKind::Pound, text)
}

const SERVER: &str = "BackEnd\nAddress 192.0.2.2\nPort 80\nEnd\n";

fn listener(lines: &str) -> String {
    format!("ListenHTTP\nAddress 192.0.2.1\nPort 80\n{lines}End\n")
}

fn service(lines: &str) -> String {
    listener(&format!("Service\n{lines}{SERVER}End\nService\nError 404\nEnd\n"))
}

#[test]
fn what_clients_send_goes_before_anything_is_added() {
    let text = format!(
        "AddHeader \"X-Real: yes\"\nHeadRemove \"X-Real\"\nHeadRemove \"X-Forwarded-.*\"\nHeadRemove \"X-(A|B)\"\nHeadRemove \"X-Z: secret\"\nService\n{SERVER}End\n"
    );
    let made = made(&listener(&text));
    let at = |part: &str| made.text.find(part).unwrap_or_else(|| panic!("{part}: {}", made.text));
    let removed = at("remove-header = [\"X-Real\", \"X-Forwarded-*\"]");
    assert!(removed < at("set-header = { \"X-Real\" = \"yes\" }"), "{}", made.text);
    at("remove-header-matching = [\"x-(a|b)\"]");
    assert_eq!(made.left.iter().map(|l| l.line).collect::<Vec<_>>(), [8], "{:?}", made.left);
}

#[test]
fn what_is_added_by_hand_stands_there_once() {
    let text = listener(&format!("AddHeader \"X-Forwarded-Proto: http\"\nService\n{SERVER}End\n"));
    let text = made(&text).text;
    assert!(text.contains("forwarded = [\"x-forwarded-for\", \"x-forwarded-port\"]"), "{text}");
    assert!(text.contains("set-header = { \"X-Forwarded-Proto\" = \"http\" }"), "{text}");
}

/// Real servers believe what only Pound sets: clients cannot send it.
#[test]
fn what_pound_adds_by_itself_is_added() {
    let https = |lines: &str| {
        let text = format!(
            "ListenHTTPS\nAddress 192.0.2.1\nPort 443\nCert \"/a.pem\"\n{lines}Service\n{SERVER}End\nEnd\n"
        );
        made(&text)
    };
    let plain = https("").text;
    let at = |text: &str, part: &str| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
    let cleared = at(&plain, "remove-header = [\"X-SSL-*\"]");
    assert!(
        cleared < at(&plain, "set-header = { \"X-SSL-cipher\" = \"{tls-version}/{tls-cipher}\" }"),
        "{plain}"
    );
    assert!(!plain.contains("X-SSL-Subject"), "{plain}");
    let clients = https("ClientCert 1 2\nVerifyList \"/ca.pem\"\n");
    at(&clients.text, "\"X-SSL-Subject\" = \"{client-certificate:subject}\"");
    assert!(clients.left.iter().any(|l| l.consequence.contains("X-SSL-serial")), "{:?}", clients.left);
    for none in ["HeaderOption no-ssl\n", "HeaderOption none\n", "HeaderOption none forwarded\n"] {
        assert!(!https(none).text.contains("X-SSL"), "{none}");
    }
    let back = format!(
        "HeaderOption none\n{}",
        listener(&format!("HeaderOption forwarded\nService\n{SERVER}End\n"))
    );
    at(&made(&back).text, "forwarded = [\"x-forwarded-for\", \"x-forwarded-proto\", \"x-forwarded-port\"]");
    let away = listener(&format!("HeadRemove \"X-Forwarded-.*\"\nService\n{SERVER}End\n"));
    assert!(!made(&away).text.contains("forwarded = ["));
}

/// `{` begins a variable here, and nothing there.
#[test]
fn braces_of_headers_stay() {
    for (line, header) in [
        ("AddHeader \"X-A: {b} c\"", "\"X-A\" = \"{{b}} c\""),
        ("SetHeader \"X-A: {%[path]}\"", "\"X-A\" = \"{{{path}}}\""),
    ] {
        let made = made(&listener(&format!("{line}\nService\n{SERVER}End\n")));
        assert!(made.text.contains(header) && made.left.is_empty(), "{} {:?}", made.text, made.left);
    }
}

/// Seen beside Pound 4.23 with requests; what differs from it is meant: `\.` is a dot, as in Pound 2.
#[test]
fn each_condition_keeps_its_meaning() {
    for (line, when) in [
        ("HeadRequire \"Host: www.example.com\"", "host(\"www.example.com\")"),
        ("HeadRequire \"Host:[ \t]*www\\.example\\.com$\"", "host(\"www.example.com\")"),
        // The beginning of a name is no name.
        ("HeadRequire \"Host: www\"", "host =~ \"(?i)^www\""),
        ("HeadRequire \"Host: .*Example.com.*\"", "host =~ \"(?i).*Example.com.*\""),
        ("HeadRequire \"Host: (www|mail)\\.a\\.org\"", "host =~ \"(?i)^(www|mail)\\\\.a\\\\.org\""),
        ("HeadRequire \"X-Plan: gold\"", "header(\"X-Plan\") =~ \"(?i)^gold\""),
        ("HeadRequire \"^X-Plan:.*\"", "header(\"X-Plan\")"),
        ("HeadRequire \"X-Plan\"", "header(\"X-Plan\")"),
        ("HeadDeny \"User-Agent: .*MSIE\"", "!(header(\"User-Agent\") =~ \"(?i).*MSIE\")"),
        ("URL \"^/static/\"", "path =~ \"^/static/\""),
        ("URL \"/tid$\"", "path =~ \"/tid$\" && !text(\"{query}\")"),
        ("URL \"^/foo.*id=5\"", "text(\"{uri|url-decode}\") =~ \"^/foo.*id=5\""),
        ("IgnoreCase 1\nURL \"^/a\"", "path =~ \"(?i)^/a\""),
        ("Host \"www.example.org\"", "host(\"www.example.org\")"),
        ("Host -beg \"www.\"", "host =~ \"(?i)^www\\\\.\""),
        ("Not Path -icase -end \".gif\"", "!(path =~ \"(?i)\\\\.gif$\")"),
        ("Header \"Content-Type\" -beg \"text/\"", "header(\"Content-Type\") =~ \"(?i)^text/\""),
        ("QueryParam \"id\" \"^[0-9]+$\"", "text(\"{query:id}\") =~ \"^[0-9]+$\""),
        ("Method \"POST\"", "method(\"POST\")"),
        ("ACL\n\"192.0.2.0/24\"\n\"2001:db8::/32\"\nEnd", "source(\"192.0.2.0/24\", \"2001:db8::/32\")"),
        ("Not ACL \"in\"", "!(source(\"198.51.100.0/24\"))"),
        ("ACL -file \"acl/x\"", "source(\"@/etc/acl/x\")"),
        (
            "Match OR\nPath \"^/a\"\nMatch AND\nPath \"^/b\"\nHost \"b.org\"\nEnd\nEnd",
            "(path =~ \"^/a\" || (path =~ \"^/b\" && host(\"b.org\")))",
        ),
        ("Eval \"c\"", "(path =~ \"^/c\" && method(\"GET\"))"),
    ] {
        let globals =
            "ACL \"in\"\n\"198.51.100.0/24\"\nEnd\nCondition \"c\"\nPath \"^/c\"\nMethod \"GET\"\nEnd\n";
        let made = made(&format!("{globals}{}", service(&format!("{line}\n"))));
        let written = match when.contains('\'') {
            true => format!("when = {when:?}"),
            false => format!("when = '{when}'"),
        };
        assert!(made.text.contains(&written), "{line}: {written}\n{}\n{:?}", made.text, made.left);
        assert!(made.left.is_empty(), "{line}: {:?}", made.left);
    }
}

/// A service that asks what cannot be asked would take requests that are kept from it.
#[test]
fn what_cannot_be_asked_opens_nothing() {
    for line in [
        "BasicAuth \"users\"",
        "TBF \"k\" 5 10",
        "LuaMatch \"f\"",
        "ClientCert \"/c.pem\"",
        "ACL \"nobody\"",
        "ACL -forwarded \"in\"",
        "Eval \"nothing\"",
        "StringMatch \"%[path]\" \"x\"",
        "HeadRequire \"X-(A|B): 1\"",
        "URL \"(\"",
        "Path -file \"paths\"",
    ] {
        let made = made(&service(&format!("{line}\n")));
        assert!(!made.text.contains("192.0.2.2"), "{line}: {}", made.text);
        assert!(made.left.iter().any(|left| left.severity == Severity::Critical), "{line}: {:?}", made.left);
    }
}

#[test]
fn listeners_without_servers_redirect_and_refuse() {
    let redirect = made(&listener("Service\nRedirect \"https://www.example.org/\" # always\nEnd\n"));
    assert!(redirect.text.contains("location = \"https://www.example.org{path}\""), "{}", redirect.text);
    assert!(redirect.left.is_empty(), "{:?}", redirect.left);
    // 503 where no service has servers, and nobody else's.
    let nobody = made(&listener("Service\nURL \"^/b\"\nEnd\n"));
    assert!(nobody.text.contains("when = 'path =~ \"^/b\"'\n  deny = { status = 503 }"), "{}", nobody.text);
    assert!(nobody.left.iter().any(|left| left.severity == Severity::Critical), "{:?}", nobody.left);
}

#[test]
fn servers_have_names_and_are_global() {
    let text = format!(
        "Backend \"far\"\nAddress app.example.org\nPort 8080\nHTTPS\nServerName \"app\"\nEnd\nEnd\n{}",
        listener(
            "Service \"shop\"\nURL \"^/\"\nBackend \"far\"\nPriority 3\nEnd\nUseBackend \"far\"\nBackend\nAddress ${APP}\nEnd\nEnd\n"
        )
    );
    let made = made(&text.replace("HTTPS\nServerName \"app\"\nEnd\n", "HTTPS\nServerName \"app\"\n"));
    for part in ["name = \"shop\"", "address = \"app.example.org:8080\"", "sni = \"app\"", "weight = 8"] {
        assert!(made.text.contains(part), "{part}\n{}\n{:?}", made.text, made.left);
    }
    assert!(
        made.left.iter().any(|left| left.consequence.starts_with("${APP} is no address")),
        "{:?}",
        made.left
    );
}

#[test]
fn clients_show_certificates() {
    let text = |level| {
        format!(
            "ListenHTTPS\nAddress 192.0.2.1\nCert \"www.pem\"\nClientCert {level} 3\nVerifyList \"/ca.pem\"\nCRLlist \"/crl.pem\"\nDisable TLSv1_2\nService\n{SERVER}End\nEnd\n"
        )
    };
    let required = made(&text(2)).text;
    assert!(
        required.contains("client-auth = { ca = \"/ca.pem\", mode = \"required\", crl = \"/crl.pem\" }"),
        "{required}"
    );
    assert!(required.contains("certificates = [\"/etc/www.pem\"], min-version = \"1.3\""), "{required}");
    assert!(required.contains("192.0.2.1:443"), "{required}");
    assert!(made(&text(1)).text.contains("mode = \"optional\""));
    assert!(made(&text(3)).left.iter().any(|left| left.severity == Severity::Critical));
}

#[test]
fn a_password_is_asked_for() {
    let text = listener(&format!(
        "Service\nPath \"^/admin\"\nNot BasicAuth \"htpasswd\"\nRewrite response\nSetHeader \"WWW-Authenticate: Basic realm=\\\"x\\\"\"\nEnd\nError 401\nEnd\nService\n{SERVER}End\n"
    ));
    let text = made(&text).text;
    assert!(
        text.contains("when = 'path =~ \"^/admin\"'\n  basic-auth = { users = \"/etc/htpasswd\" }"),
        "{text}"
    );
}

#[test]
fn requests_are_rewritten_where_they_go() {
    let made = made(&service(
        "Path \"^/app/(.*)$\"\nSetPath \"/$1\"\nSetHeader \"X-Host: %[host]\"\nDeleteHeader \"X-Gone\"\n",
    ));
    for part in ["remove-header = [\"X-Gone\"]", "rewrite-path = \"/{1}\"", "{ \"X-Host\" = \"{host}\" }"] {
        assert!(made.text.contains(part), "{part}\n{}\n{:?}", made.text, made.left);
    }
    assert!(made.left.is_empty(), "{:?}", made.left);
}
