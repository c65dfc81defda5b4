//! Keys of health checks.

use super::{Available, DAY_MS, Key, Kind, Variant, duration, key, line};

const INTERVAL: Key = key("interval", duration(50, DAY_MS), "2s", "From one probe to the next.");
const TIMEOUT: Key = key("timeout", duration(10, DAY_MS), "1s", "How long a probe may take.");
const RISE: Key =
    key("rise", Kind::Integer { min: 1, max: 100 }, "2", "Passed probes in a row that bring a server up.");
const FALL: Key =
    key("fall", Kind::Integer { min: 1, max: 100 }, "3", "Failed probes in a row that take a server down.");
const PORT: Key =
    key("port", Kind::Integer { min: 1, max: 65535 }, "", "Probe this port instead of the server's own.");

pub const HEALTH_CHECK: Kind = Kind::Typed(&[
    Variant {
        word: "tcp",
        doc: "A connection can be opened.",
        available: Available::Now,
        keys: &[INTERVAL, TIMEOUT, RISE, FALL, PORT],
    },
    Variant {
        word: "http",
        doc: "A request gets the expected answer.",
        available: Available::Now,
        keys: &[
            INTERVAL,
            TIMEOUT,
            RISE,
            FALL,
            PORT,
            key("method", Kind::Token, "GET", "Request method."),
            key("path", Kind::HttpPath, "/", "Request target."),
            key("host", line(255), "", "`Host` header; the server's address when absent."),
            key("status", Kind::Statuses, "200-399", "Statuses that pass."),
            key("expect", line(1024), "", "Text that the first 64 KiB of the body must hold."),
        ],
    },
    Variant {
        word: "none",
        doc: "No probes; a refused connection takes a server out for `interval`.",
        available: Available::Now,
        keys: &[INTERVAL],
    },
]);
