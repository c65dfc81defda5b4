//! A server whose every byte the test decides.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Runs a function for each connection, on a thread of its own, until dropped.
pub struct Scripted {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Scripted {
    pub fn start(address: SocketAddr, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        // The 128 of std are too few beside an attack: a health check's SYN would be dropped as well.
        rustix::net::listen(&listener, 4096).unwrap_or_else(|e| panic!("{address}: {e}"));
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let (stopped, counted, kept) = (stop.clone(), connections.clone(), streams.clone());
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                counted.fetch_add(1, SeqCst);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
                let (Ok(copy), Ok(ended)) = (stream.try_clone(), stream.try_clone()) else { continue };
                if let Ok(mut kept) = kept.lock() {
                    kept.push(copy);
                }
                let serve = serve.clone();
                std::thread::spawn(move || {
                    serve(stream);
                    // The copy kept for the end must not keep the connection open.
                    let _ = ended.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Scripted { address, stop, connections, streams }
    }

    /// Answers every request with the same bytes, on kept connections.
    pub fn answering(address: SocketAddr, answer: impl Into<Vec<u8>>) -> Scripted {
        let answer = answer.into();
        Scripted::start(address, move |mut stream| {
            while read_head(&mut stream).is_some() {
                if std::io::Write::write_all(&mut stream, &answer).is_err() {
                    return;
                }
            }
        })
    }

    /// Answers with its name.
    pub fn named(address: SocketAddr, name: &str) -> Scripted {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        Scripted::answering(address, text)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        for stream in self.streams.lock().iter().flat_map(|all| all.iter()) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Reads one head, byte by byte so that nothing behind it is taken; `None` at the end.
pub fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
