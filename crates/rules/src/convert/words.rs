//! The converters as the reference describes them.

/// One converter, for the reference and for whoever mistypes it.
#[derive(Debug)]
pub struct ConverterDoc {
    pub name: &'static str,
    pub doc: &'static str,
    pub example: &'static str,
}

const fn doc(name: &'static str, doc: &'static str, example: &'static str) -> ConverterDoc {
    ConverterDoc { name, doc, example }
}

pub static CONVERTERS: &[ConverterDoc] = &[
    doc("lower", "lower case", "{host|lower}"),
    doc("upper", "upper case", "{method|upper}"),
    doc("trim", "without white space at both ends", "{header:X-Name|trim}"),
    doc("length", "how many bytes it has", "{path|length}"),
    doc("base64", "in Base64", "{source|base64}"),
    doc("base64-decode", "Base64 decoded; nothing where it is none", "{header:X-Data|base64-decode}"),
    doc("base64url", "in Base64 for addresses, without padding", "{path|base64url}"),
    doc("base64url-decode", "the same decoded", "{query:data|base64url-decode}"),
    doc(
        "hex",
        "two hexadecimal digits a byte; with a separator and a size in such chunks, and with `whole` in whole ones alone",
        "{path|sha256|hex(\":\",1)}",
    ),
    doc(
        "decimal",
        "chunks of so many bytes (up to 8) as numbers, with a separator",
        "{host|decimal(\".\",1)}",
    ),
    doc("hex-decode", "the bytes of hexadecimal digits", "{header:X-Id|hex-decode}"),
    doc("url-encode", "`%41` for what may not stand in a query", "{path|url-encode}"),
    doc("url-decode", "`%41` decoded", "{query:q|url-decode}"),
    doc("uri-decode", "the same of a whole address: `+` is a space in its query", "{uri|uri-decode}"),
    doc("form-decode", "the same, and `+` is a space", "{query:q|form-decode}"),
    doc("sha1", "the SHA-1 of it: 20 bytes", "{uri|sha1|hex}"),
    doc("sha224", "the SHA-224: 28 bytes", "{uri|sha224|hex}"),
    doc("sha256", "the SHA-256: 32 bytes", "{uri|sha256|hex}"),
    doc("sha384", "the SHA-384: 48 bytes", "{uri|sha384|hex}"),
    doc("sha512", "the SHA-512: 64 bytes", "{uri|sha512|hex}"),
    doc(
        "hmac",
        "the HMAC with a digest and a key, which may have variables",
        "{path|hmac(sha256,\"the key\")|hex}",
    ),
    doc("crc32", "the CRC-32 as a number; `mixed` once more", "{path|crc32}"),
    doc("crc32c", "the CRC-32C as a number", "{path|crc32c}"),
    doc("djb2", "Bernstein's hash as a number", "{path|djb2}"),
    doc("sdbm", "the hash of sdbm as a number", "{path|sdbm(mixed)}"),
    doc("xxh32", "xxHash of 32 bits as a number, with a seed", "{path|xxh32(7)}"),
    doc("xxh64", "xxHash of 64 bits as a number with a sign", "{path|xxh64}"),
    doc("xxh3", "XXH3 of 64 bits as a number with a sign, with a seed", "{path|xxh3}"),
    doc("wt6", "HAProxy's hash of this name as a number", "{path|wt6}"),
    doc(
        "hex-integer",
        "the number that its hexadecimal digits are; else nothing",
        "{header:X-Id|hex-integer}",
    ),
    doc(
        "jwt-verify",
        "whether a JSON Web Token was signed: the algorithm (`RS256`, `PS256`, `ES256` and their like with 384 and 512, or a text with variables) and the file of a public key or certificate. `1`: it was, `0`: it was not, `-1`: that is no such algorithm, `-3`: that is no token. What the token says of time, issuer and audience is asked with `json-query`",
        "{header:Authorization|word(2,\" \")|jwt-verify(RS256,\"/etc/evenkeel/jwt.pem\")}",
    ),
    doc(
        "jwt-verify-secret",
        "the same with a secret: `HS256`, `HS384` or `HS512`",
        "{query:token|jwt-verify-secret(HS256,\"a long secret\")}",
    ),
    doc(
        "json-query",
        "a value out of JSON by its path: a text, a number, a list, `1` or `0`; else nothing",
        "{header:X-Claims|json-query(\"$.user.names[0]\")}",
    ),
    doc(
        "field",
        "the part of this number between the signs, from 1; from the end below 0; with a count so many parts, to the end (or the beginning) with 0",
        "{path|field(2,\"/\")}",
    ),
    doc("word", "the same, but several signs are one border", "{path|word(1,\"/\",2)}"),
    doc("bytes", "so many bytes from an offset", "{host|bytes(0,3)}"),
    doc(
        "replace",
        "what a regular expression finds, replaced: once, or everywhere with `all`",
        "{path|replace(\"/v[0-9]+\",\"\")}",
    ),
    doc(
        "normalize",
        "path and query in one normal form: `path-merge-slashes`, `path-strip-dot`, `path-strip-dotdot`, `path-strip-dotdot-full`, `query-sort-by-name`, `percent-to-uppercase`, `percent-decode-unreserved`, `fragment-strip`, `fragment-encode`",
        "{uri|normalize(path-merge-slashes)}",
    ),
    doc(
        "param",
        "the value of a parameter of a list, which `&` or another sign divides; not there where it is not",
        "{header:X-List|param(name,\";\")}",
    ),
    doc("json", "fit to stand between the quotes of JSON", "{header:User-Agent|json}"),
    doc("default", "another text where there is nothing", "{header:X-Lang|default(\"en\")}"),
    doc(
        "if",
        "one text where it is true (not empty, not 0), else another",
        "{tls-version|if(\"secret\",\"plain\")}",
    ),
    doc(
        "choose",
        "the text that stands behind this one in a list of pairs; not there where it is not among them",
        "{host|choose(\"a.example\",\"first\",\"b.example\",\"second\")}",
    ),
    doc(
        "network",
        "an address masked: bits of IPv4, bits of IPv6, each also as a mask (`255.255.255.0`, `ffff:ffff::`)",
        "{source|network(24,64)}",
    ),
    doc(
        "present",
        "what follows is left out where there is nothing, not even an empty text",
        "{header:X-A|present|sha256|hex}",
    ),
    doc("integer", "the number that it begins with, else 0", "{header:X-Count|integer}"),
    doc("add", "a number and this one", "{port|add(1000)}"),
    doc("sub", "a number less this one", "{port|sub(1000)}"),
    doc("mul", "a number times this one", "{path|length|mul(2)}"),
    doc("div", "a number divided by this one", "{path|length|div(2)}"),
    doc("mod", "what is left of that", "{source-port|mod(10)}"),
    doc("and", "the bits that a number has in common with this one", "{port|and(255)}"),
    doc("or", "the bits of both", "{port|or(1)}"),
    doc("xor", "the bits of one of them", "{port|xor(1)}"),
    doc("cpl", "the bits of a number turned round", "{port|cpl}"),
    doc("http-date", "a time in seconds since 1970 as HTTP writes it", "{unix-time|add(3600)|http-date}"),
    doc("append", "with a text behind it, which may have variables", "{host|append(\":{port}\")}"),
    doc(
        "append-item",
        "the same of a list: with a separator, unless the list or the text is empty",
        "{variable:seen|append-item(\",\",\"{source}\")}",
    ),
    doc(
        "map",
        "what a map file says of it, how its keys are compared (`exact`, `begin`, `end`, `domain`, `contains`, `regex`, `regex-groups`, `network`, `stars`), and what stands for those that are not there",
        "{path|map(\"/etc/evenkeel/old.map\",exact,\"/\")}",
    ),
    doc(
        "listed",
        "`1` where a line of the file fits it, compared as the keys of a map are (`exact`, `begin`, `end`, `domain`, `contains`, `regex`, `network`…), else `0`; with `fold` upper and lower case are the same",
        "{header:User-Agent|listed(\"/etc/evenkeel/bots.list\",contains,fold)}",
    ),
    doc(
        "compare",
        "`-1`, `0` or `1`: it comes before this text, which may have variables, is the same, or comes behind it",
        "{host|compare(\"{variable:name}\")}",
    ),
    doc(
        "equals",
        "`1` where it is this text, which may have variables, else `0`; takes as long for any text",
        "{header:X-Key|sha256|hex|equals(\"{variable:key}\")}",
    ),
];
