//! Frames: kind, length, bytes.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A configuration of 100,000 services fits.
pub const LONGEST: usize = 64 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub body: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("a frame of {0} bytes")]
    TooLong(usize),
}

pub async fn read(stream: &mut (impl AsyncRead + Unpin), longest: usize) -> Result<Frame, FrameError> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > longest {
        return Err(FrameError::TooLong(length));
    }
    // Grows with what really comes.
    let mut body = Vec::with_capacity(length.min(1 << 16));
    let read = stream.take(length as u64).read_to_end(&mut body).await?;
    if read < length {
        return Err(FrameError::Io(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(Frame { kind: head[0], body })
}

pub async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> std::io::Result<()> {
    let mut head = [frame.kind, 0, 0, 0, 0];
    head[1..].copy_from_slice(&(frame.body.len() as u32).to_be_bytes());
    stream.write_all(&head).await?;
    stream.write_all(&frame.body).await
}
