//! HAProxy's command line (its management guide, section 3).

use std::path::PathBuf;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    pub files: Vec<PathBuf>,
    pub directory: Option<PathBuf>,
    pub check: bool,
    pub daemon: bool,
    pub foreground: bool,
    pub master_worker: bool,
    pub quiet: bool,
    pub verbose: bool,
    pub debug: bool,
    /// Warnings are errors.
    pub strict: bool,
    pub version: Option<u8>,
    pub condition: Option<String>,
    pub pidfile: Option<PathBuf>,
    pub local_peer: Option<String>,
    pub maxconn: Option<u64>,
    pub proxy_maxconn: Option<u64>,
    pub memory_mb: Option<u64>,
    /// Processes that finish what they have.
    pub finish: Vec<u32>,
    /// Processes that end at once.
    pub terminate: Vec<u32>,
    /// A stats socket of the process to take the listening sockets from.
    pub take_from: Option<String>,
    /// The master's own socket.
    pub master_socket: Option<String>,
    pub help: bool,
}

pub const USAGE: &str = "Usage : haproxy [-f <cfgfile|cfgdir>]* [ -vdVD ] [ -n <maxconn> ] [ -N <maxpconn> ]
        [ -p <pidfile> ] [ -m <max megs> ] [ -C <dir> ] [-- <cfgfile>*]
        -v displays version ; -vv shows what it can do
        -f load this file, or the .cfg files of this folder ; -- names files too
        -d runs in foreground ; -db only disables background mode ; other -d* are taken and change nothing
        -dW fails if any warning is emitted
        -D goes daemon ; -W master-worker mode ; -Ws the same with notifications of the service manager
        -C changes to <dir> before loading configuration files
        -q quiet mode : don't display messages ; -V verbose
        -c check mode : only check config files and exit
        -cc check condition : evaluate a condition and exit
        -n sets the maximum total # of connections ; -N the same a proxy
        -m limits the memory of buffers (in MB) ; -L sets the local peer name
        -p writes pids of all children to this file
        -sf/-st [pid ]* finishes/terminates old pids
        -S <bind>[,mode,<mode>] the master's own socket, with -W
        -x <unix_socket> gets the listening sockets from the process of this socket
";

pub fn parse(arguments: &[String]) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    let mut rest = arguments.iter().peekable();
    while let Some(word) = rest.next() {
        let mut value = |what: &str| rest.next().cloned().ok_or(format!("{word} expects {what}"));
        match word.as_str() {
            "-f" => parsed.files.push(value("a file or a folder")?.into()),
            "-C" => parsed.directory = Some(value("a folder")?.into()),
            "-p" => parsed.pidfile = Some(value("a file")?.into()),
            "-L" => parsed.local_peer = Some(value("a name")?),
            "-x" => parsed.take_from = Some(value("a socket")?),
            "-S" => parsed.master_socket = Some(value("a socket")?),
            "-cc" => parsed.condition = Some(value("a condition")?),
            "-n" => parsed.maxconn = Some(number(&value("a number")?)?),
            "-N" => parsed.proxy_maxconn = Some(number(&value("a number")?)?),
            "-m" => parsed.memory_mb = Some(number(&value("a number")?)?),
            "-sf" | "-st" => {
                let pids = if word == "-sf" { &mut parsed.finish } else { &mut parsed.terminate };
                while let Some(pid) = rest.next_if(|w| !w.starts_with('-')) {
                    pids.push(pid.parse().map_err(|_| format!("{pid:?} is no process id"))?);
                }
            }
            "-c" => parsed.check = true,
            "-D" => parsed.daemon = true,
            "-W" | "-Ws" => parsed.master_worker = true,
            "-q" => parsed.quiet = true,
            "-V" => parsed.verbose = true,
            "-v" => parsed.version = Some(1),
            "-vv" => parsed.version = Some(2),
            "-h" | "--help" => parsed.help = true,
            "-d" => (parsed.debug, parsed.foreground) = (true, true),
            "-db" => parsed.foreground = true,
            "-dW" => parsed.strict = true,
            // Pollers, memory and the like, which this program has its own way with.
            other if other.starts_with("-d") => {}
            "--" => parsed.files.extend(rest.by_ref().map(PathBuf::from)),
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(parsed)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_as_haproxy_takes_them() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let parsed =
            parse(&words("-f a.cfg -f b -D -p x.pid -sf 12 13 -x /s -n 100 -dM -- c.cfg d.cfg")).unwrap();
        assert_eq!(parsed.files, ["a.cfg", "b", "c.cfg", "d.cfg"].map(PathBuf::from));
        assert_eq!((parsed.finish, parsed.maxconn, parsed.daemon), (vec![12, 13], Some(100), true));
        assert_eq!(parsed.take_from.as_deref(), Some("/s"));
        assert!(
            parse(&words("-f")).is_err() && parse(&words("-Z")).is_err() && parse(&words("-sf x")).is_err()
        );
        assert!(parse(&words("-c -f a -sf")).unwrap().finish.is_empty());
    }
}
