//! What is sent with a part of a file in it, which is read as it goes.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    pin::Pin,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};

/// What of a file is read at once.
const PART: usize = 64 * 1024;

/// A body with a part of a file in its middle.
pub(crate) struct Sent {
    before: Bytes,
    file: File,
    /// How much of the file is still to go.
    left: u64,
    after: Bytes,
}

impl Sent {
    /// So many bytes of a file, from a place in it on.
    pub(crate) fn part(mut file: File, at: u64, length: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(at))?;
        Ok(Self { before: Bytes::new(), file, left: length, after: Bytes::new() })
    }

    /// A whole file, and what is around it.
    pub(crate) fn around(before: String, file: File, after: String) -> io::Result<Self> {
        let whole = file.metadata()?.len();
        Ok(Self { before: before.into(), after: after.into(), ..Self::part(file, 0, whole)? })
    }

    fn next(&mut self) -> io::Result<Bytes> {
        if !self.before.is_empty() {
            return Ok(std::mem::take(&mut self.before));
        }
        if self.left == 0 {
            return Ok(std::mem::take(&mut self.after));
        }
        let mut part = vec![0; usize::try_from(self.left).unwrap_or(PART).min(PART)];
        let length = self.file.read(&mut part)?;
        part.truncate(length);
        self.left -= length as u64;
        if part.is_empty() {
            return Err(io::Error::other("the file has become shorter"));
        }
        Ok(part.into())
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match self.next() {
            Ok(part) if part.is_empty() => None,
            part => Some(part.map(Frame::data)),
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.before.len() as u64 + self.left + self.after.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use http_body_util::BodyExt;

    use super::*;

    async fn all(sent: Sent) -> Result<Vec<u8>, io::Error> {
        let length = sent.size_hint().exact().unwrap();
        let all = sent.collect().await?.to_bytes().to_vec();
        assert_eq!(all.len() as u64, length);
        Ok(all)
    }

    #[tokio::test]
    async fn what_is_sent_is_what_is_in_the_file_or_nothing_is() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..3 * PART + 5).map(|index| index as u8).collect();
        file.write_all(&content).unwrap();
        let file = || file.try_clone().unwrap();
        let part = |at: usize, length| Sent::part(file(), at as u64, length as u64).unwrap();
        assert_eq!(all(part(7, PART + 1)).await.unwrap(), content[7..PART + 8]);
        assert_eq!(all(part(3 * PART, 5)).await.unwrap(), content[3 * PART..]);
        assert!(all(part(0, 0)).await.unwrap().is_empty());
        assert!(all(part(3 * PART, 6)).await.is_err());
        let around = Sent::around("<".to_owned(), file(), ">".to_owned()).unwrap();
        assert_eq!(all(around).await.unwrap(), [b"<", content.as_slice(), b">"].concat());
    }
}
