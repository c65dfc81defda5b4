//! Open sockets and a text, sent from one process to the next over a Unix socket (unix(7),
//! SCM_RIGHTS). The kernel's queue of waiting connections goes along with a listening socket.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// What one process gives the next. `text` describes the sockets, in their order.
#[derive(Debug)]
pub struct Package {
    pub text: Vec<u8>,
    pub sockets: Vec<OwnedFd>,
}

#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    #[error("the other process: {0}")]
    Io(#[from] std::io::Error),
    #[error("the other process sent something that is no hand-over")]
    Shape,
}

/// The kernel takes 253 descriptors a message.
const SOCKETS_A_MESSAGE: usize = 128;
const TEXT_AT_MOST: u64 = 256 << 20;
const SOCKETS_AT_MOST: u64 = 1 << 20;

pub fn send(stream: &mut UnixStream, text: &[u8], sockets: &[BorrowedFd<'_>]) -> Result<(), HandoverError> {
    stream.write_all(&(text.len() as u64).to_be_bytes())?;
    stream.write_all(&(sockets.len() as u64).to_be_bytes())?;
    stream.write_all(text)?;
    for chunk in sockets.chunks(SOCKETS_A_MESSAGE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_A_MESSAGE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(chunk));
        let count = [chunk.len() as u8];
        sendmsg(&*stream, &[IoSlice::new(&count)], &mut ancillary, SendFlags::NOSIGNAL)
            .map_err(std::io::Error::from)?;
    }
    Ok(())
}

pub fn receive(stream: &mut UnixStream) -> Result<Package, HandoverError> {
    let mut number = || -> Result<u64, HandoverError> {
        let mut bytes = [0u8; 8];
        stream.read_exact(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    };
    let (length, count) = (number()?, number()?);
    if length > TEXT_AT_MOST || count > SOCKETS_AT_MOST {
        return Err(HandoverError::Shape);
    }
    let mut text = vec![0; length as usize];
    stream.read_exact(&mut text)?;
    let mut sockets = Vec::new();
    while (sockets.len() as u64) < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_A_MESSAGE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut announced = [0u8];
        let mut slices = [IoSliceMut::new(&mut announced)];
        let read = recvmsg(&*stream, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .map_err(std::io::Error::from)?;
        let before = sockets.len();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                sockets.extend(fds);
            }
        }
        if read.bytes == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        if sockets.len() == before {
            return Err(HandoverError::Shape);
        }
    }
    Ok(Package { text, sockets })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn sockets_arrive_in_order_and_work() {
        let (mut old, mut new) = UnixStream::pair().unwrap();
        let pairs: Vec<_> = (0..300).map(|_| UnixStream::pair().unwrap()).collect();
        let fds: Vec<_> = pairs.iter().map(|(a, _)| a.as_fd()).collect();
        send(&mut old, b"names", &fds).unwrap();
        let package = receive(&mut new).unwrap();
        assert_eq!((package.text.as_slice(), package.sockets.len()), (&b"names"[..], 300));
        for (i, socket) in package.sockets.into_iter().enumerate() {
            UnixStream::from(socket).write_all(&[i as u8]).unwrap();
        }
        for (i, (_, mut far)) in pairs.into_iter().enumerate() {
            let mut byte = [0];
            far.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], i as u8);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let (mut old, mut new) = UnixStream::pair().unwrap();
        old.write_all(&[0xff; 16]).unwrap();
        assert!(matches!(receive(&mut new), Err(HandoverError::Shape)));
        let (mut old, mut new) = UnixStream::pair().unwrap();
        old.write_all(&[0; 15]).unwrap();
        drop(old);
        assert!(matches!(receive(&mut new), Err(HandoverError::Io(_))));
    }
}
