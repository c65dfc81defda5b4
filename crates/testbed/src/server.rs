//! Real servers: nginx, Apache, Node, and HAProxy to compare with.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Place, Process, eventually};

fn listening(address: SocketAddr) {
    eventually(&format!("{address} listens"), Duration::from_secs(10), || {
        TcpStream::connect(address).is_ok()
    });
}

/// nginx that answers `/` with its name, and files below `/files/` from the test's folder.
pub fn nginx(place: &Place, name: &str, address: SocketAddr) -> Process {
    nginx_with(place, name, address, &format!("location / {{ return 200 \"{name}\"; }}"))
}

pub fn nginx_with(place: &Place, name: &str, address: SocketAddr, locations: &str) -> Process {
    let folder = place.file(name);
    std::fs::create_dir_all(folder.join("tmp")).expect("a folder");
    std::fs::create_dir_all(place.file("files")).expect("a folder");
    let (base, files) = (folder.display(), place.folder().display());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {base}/tmp/{kind}; "))
        .collect();
    let config = format!(
        "daemon off; worker_processes 1; pid {base}/pid; error_log {base}/error.log;\n\
         events {{ worker_connections 8192; }}\n\
         http {{ access_log off; keepalive_requests 100000000; client_max_body_size 0; {temporary}\n\
         server {{ listen {address} backlog=4096; location /files/ {{ root {files}; }} {locations} }} }}\n"
    );
    let path = place.write(&format!("{name}/nginx.conf"), config);
    let process = Process::start(
        Command::new("nginx").arg("-p").arg(&folder).arg("-c").arg(path).stderr(Stdio::null()),
    );
    listening(address);
    process
}

/// Apache with the few modules that a test of framing needs; echoes through a CGI-less default.
pub fn apache(place: &Place, name: &str, address: SocketAddr) -> Process {
    let folder = place.file(name);
    std::fs::create_dir_all(folder.join("www")).expect("a folder");
    std::fs::write(folder.join("www/index.html"), name).expect("a file");
    let base = folder.display();
    let modules = "/usr/lib/apache2/modules";
    let config = format!(
        "ServerRoot {base}\nServerName test\nListen {address}\nPidFile {base}/pid\nErrorLog {base}/error.log\n\
         LoadModule mpm_event_module {modules}/mod_mpm_event.so\n\
         LoadModule authz_core_module {modules}/mod_authz_core.so\n\
         LoadModule dir_module {modules}/mod_dir.so\n\
         LogFormat \"\\\"%r\\\"\" seen\nCustomLog {base}/seen.log seen\n\
         DocumentRoot {base}/www\n<Directory {base}/www>\nRequire all granted\n</Directory>\n"
    );
    let path = place.write(&format!("{name}/apache.conf"), config);
    let process =
        Process::start(Command::new("apache2").args(["-DFOREGROUND", "-f"]).arg(path).stderr(Stdio::null()));
    listening(address);
    process
}

/// Node running a script, which gets host and port as its arguments.
pub fn node(place: &Place, name: &str, address: SocketAddr, script: &str) -> Process {
    let path = place.write(&format!("{name}.js"), script);
    let process = Process::start(
        Command::new("node").arg(path).arg(address.ip().to_string()).arg(address.port().to_string()),
    );
    listening(address);
    process
}

pub fn haproxy(place: &Place, config: &str, address: SocketAddr) -> Process {
    let path = place.write("haproxy.cfg", config);
    let log = std::fs::File::create(place.file("haproxy.log")).expect("a log");
    let process = Process::start(
        Command::new("haproxy").arg("-db").arg("-f").arg(path).stdout(log).stderr(Stdio::null()),
    );
    listening(address);
    process
}
