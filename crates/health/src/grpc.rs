//! gRPC's health protocol (grpc.health.v1.Health/Check) over a connection of HTTP/2 made for one
//! call.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connect::Stream;

const FRAME_AT_MOST: usize = 64 * 1024;
const FRAMES_AT_MOST: u32 = 64;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8], out: &mut Vec<u8>) {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, 0, 0, 0, stream]);
    out.extend_from_slice(payload);
}

/// A field as a literal that no table keeps (RFC 7541 section 6.2.2).
fn field(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(0);
    for text in [name, value] {
        out.push(text.len().min(126) as u8);
        out.extend_from_slice(&text.as_bytes()[..text.len().min(126)]);
    }
}

pub async fn probe(
    stream: &mut dyn Stream,
    service: &str,
    authority: &str,
    tls: bool,
) -> Result<String, String> {
    let broken = |e: std::io::Error| format!("connection broke: {e}");
    stream.write_all(&request(service, authority, tls)).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    for _ in 0..FRAMES_AT_MOST {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.map_err(|_| "closed before the answer".to_owned())?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if length > FRAME_AT_MOST {
            return Err("the answer is no HTTP/2".into());
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.map_err(|_| "closed amid the answer".to_owned())?;
        let ends = head[4] & 1 != 0;
        match (head[3], head[8]) {
            (0, 1) if !payload.is_empty() => return serving(&payload),
            (0 | 1, 1) if ends => {
                return Err("the call failed: no such service, or no health protocol".into());
            }
            (3, 1) => return Err("the server reset the call".into()),
            (4, 0) if !ends => {
                let mut acknowledgement = Vec::new();
                frame(4, 1, 0, &[], &mut acknowledgement);
                stream.write_all(&acknowledgement).await.map_err(broken)?;
                stream.flush().await.map_err(broken)?;
            }
            (7, _) => return Err("the server sent the connection away".into()),
            _ => {}
        }
    }
    Err("no answer among many frames".into())
}

fn request(service: &str, authority: &str, tls: bool) -> Vec<u8> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(4, 0, 0, &[], &mut out);
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", if tls { "https" } else { "http" }),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "evenkeel-health"),
    ] {
        field(name, value, &mut block);
    }
    frame(1, 4, 1, &block, &mut out);
    // The request is one field of text, the service's name; a message has five bytes before it.
    let name = &service.as_bytes()[..service.len().min(100)];
    let mut message = Vec::new();
    if !name.is_empty() {
        message.extend_from_slice(&[0x0a, name.len() as u8]);
        message.extend_from_slice(name);
    }
    let mut data = vec![0, 0, 0, 0, message.len() as u8];
    data.extend_from_slice(&message);
    frame(0, 1, 1, &data, &mut out);
    out
}

/// The answer's one field: 1 is SERVING.
fn serving(data: &[u8]) -> Result<String, String> {
    match data.get(5..) {
        Some([0x08, 1, ..]) => Ok("SERVING".into()),
        Some([0x08, 2, ..]) => Err("NOT_SERVING".into()),
        Some([0x08, 3, ..]) => Err("SERVICE_UNKNOWN".into()),
        _ => Err("UNKNOWN".into()),
    }
}
