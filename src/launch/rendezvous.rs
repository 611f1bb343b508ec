//! The link between parent and init: steps, descriptors, and failures that survive the crossing.
//!
//! Both ends are the same program at the same version and hold the same plan, so there is no protocol to speak of:
//! one says «go on with step N», the other «step N is done» or «step N failed, and this is why». Same program is
//! not same trust, though: init lives beside processes it did not start. Decoding is total, takes no length on
//! faith, and the parent never uses a path that init sent.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::Step;
use crate::error::{Cause, Context, Error, Kind, Result};
use crate::sys::{self, Errno, Refused, descriptor, socket};

/// One message at the most: a failure with its whole story fits, and nothing of init's can exhaust the parent.
const LONGEST: usize = 32 * 1024;

/// Most descriptors in one message (the kernel's own limit is 253).
const MOST_FDS: usize = 8;

/// The parent's longest word: a number for each descriptor. Room for more would be pages that every child has to touch.
const LONGEST_GO: usize = 2 + MOST_FDS * size_of::<u64>();

/// One end of the link.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
}

/// What one message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// Parent to init: go on with this step.
    Go,
    /// Init to parent: this step is done.
    Done,
    /// Init to parent: this step failed.
    Failed,
}

/// A message's payload and what came with it.
#[derive(Debug, Default)]
pub struct Parcel {
    /// Bytes, as the step defines them.
    pub bytes: Vec<u8>,
    /// Descriptors, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// A new link: the parent's end and init's.
pub fn pair() -> Result<(Link, Link)> {
    let (ours, theirs) = socket::socketpair_seqpacket().doing("link parent and init")?;
    Ok((Link { socket: ours }, Link { socket: theirs }))
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Link {
    /// Parent: lets init go on with `step`.
    pub fn go(&self, step: Step) -> Result<()> {
        self.tell(step, &[], &[])
    }

    /// Parent: lets init go on with `step`, for which it gets these descriptors, each under its number.
    pub fn lend(&self, step: Step, lent: &[(usize, BorrowedFd<'_>)]) -> Result<()> {
        for batch in lent.chunks(MOST_FDS) {
            let numbers: Vec<u8> = batch.iter().flat_map(|(number, _)| (*number as u64).to_le_bytes()).collect();
            let fds: Vec<_> = batch.iter().map(|(_, fd)| *fd).collect();
            self.tell(step, &numbers, &fds)?;
        }
        self.go(step)
    }

    /// Parent: a word to init. Where init has gone, its own error is the one that matters; where it is only that the
    /// message could not be sent, init waits and has nothing to say.
    fn tell(&self, step: Step, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.send(Word::Go, step, bytes, fds).map_err(|error| match error.errno() {
            Some(Errno::EPIPE | Errno::ECONNRESET) => self.last_words().unwrap_or(error),
            _ => error,
        })
    }

    /// Parent: why the partner has gone, where it could tell.
    fn last_words(&self) -> Option<Error> {
        let mut buffer = vec![0; LONGEST];
        loop {
            let received = self.receive(&mut buffer).ok()?;
            match buffer.get(..received.length).unwrap_or_default() {
                [] => return None,
                [word, _, bytes @ ..] if *word == Word::Failed as u8 => return Some(decode(bytes)),
                _ => {}
            }
        }
    }

    /// One message. A partner that ended with a message of ours unread makes the kernel say ECONNRESET once, before
    /// what it had sent (unix(7)).
    fn receive(&self, buffer: &mut [u8]) -> sys::Result<socket::Received> {
        match socket::receive_with_fds(&self.socket, buffer) {
            Err(refused) if refused.errno == Errno::ECONNRESET => socket::receive_with_fds(&self.socket, buffer),
            received => received,
        }
    }

    /// Init: takes what [`Link::lend`] sends.
    pub fn borrow(&self, step: Step) -> Result<Vec<(usize, OwnedFd)>> {
        let mut lent = Vec::new();
        loop {
            let parcel = self.expect(Word::Go, step)?;
            if parcel.fds.is_empty() {
                return Ok(lent);
            }
            let numbers = parcel
                .bytes
                .chunks_exact(8)
                .map(|bytes| bytes.iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte)));
            lent.extend(numbers.zip(parcel.fds));
        }
    }

    /// Init: waits for the parent's word to go on with `step`.
    pub fn wait_for_go(&self, step: Step) -> Result<()> {
        self.expect(Word::Go, step).map(drop)
    }

    /// Init: waits for the parent's word to go on with `step`, without recvmsg(2), which a filter may refuse by now.
    /// Returns what came with it.
    pub fn read_go(&self, step: Step) -> Result<Vec<u8>> {
        let mut buffer = vec![0; LONGEST_GO];
        let doing = || format!("wait for the partner's step {step:?}");
        let length = match descriptor::read(&self.socket, &mut buffer).doing_with(doing)? {
            descriptor::Progress::Bytes(length) => length,
            _ => 0,
        };
        buffer.truncate(length);
        understand(Parcel { bytes: buffer, fds: Vec::new() }, Word::Go, step).map(|parcel| parcel.bytes)
    }

    /// Parent: lets init go on with `step`, and tells it something.
    pub fn answer(&self, step: Step, bytes: &[u8]) -> Result<()> {
        self.tell(step, bytes, &[])
    }

    /// Init: tells the parent that `step` is done.
    pub fn done(&self, step: Step, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.send(Word::Done, step, bytes, fds)
    }

    /// Parent: waits until init has done `step`; if init failed before, that failure is returned.
    pub fn wait_for_done(&self, step: Step) -> Result<Parcel> {
        self.expect(Word::Done, step)
    }

    /// Parent: waits until the partner's end is closed, as execve does; if it failed instead, that failure is returned.
    pub fn wait_for_end(&self) -> Result<()> {
        let mut buffer = vec![0; LONGEST];
        let received = self.receive(&mut buffer).doing("wait for the partner's execve")?;
        match buffer.get(..received.length).unwrap_or_default() {
            [] => Ok(()),
            [_, _, bytes @ ..] => Err(decode(bytes)),
            _ => Err(decode(&[])),
        }
    }

    /// Init: tells the parent why it ends here. Nothing can be done if even that fails.
    pub fn failed(&self, step: Step, error: &Error) {
        let _ = self.send(Word::Failed, step, &encode(error), &[]);
    }

    /// Without descriptors a message goes by write(2): no filter can do without that call.
    fn send(&self, word: Word, step: Step, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut message = Vec::with_capacity(bytes.len() + 2);
        message.extend([word as u8, step as u8]);
        message.extend(&bytes[..bytes.len().min(LONGEST - 2)]);
        let sent = if fds.is_empty() {
            descriptor::write_all(&self.socket, &message)
        } else {
            socket::send_with_fds(&self.socket, &message, fds).map(drop)
        };
        sent.doing_with(|| format!("tell the partner of step {step:?}"))
    }

    fn expect(&self, word: Word, step: Step) -> Result<Parcel> {
        let mut buffer = vec![0; if word == Word::Go { LONGEST_GO } else { LONGEST }];
        let received = self.receive(&mut buffer).doing_with(|| format!("wait for the partner's step {step:?}"))?;
        buffer.truncate(received.length);
        understand(Parcel { bytes: buffer, fds: received.fds }, word, step)
    }
}

/// A whole message as the parcel of the step it is about.
fn understand(message: Parcel, word: Word, step: Step) -> Result<Parcel> {
    match message.bytes.as_slice() {
        [] => Err(Error::new(Kind::Other, format!("the partner died before step {step:?} was done"))),
        [got, at, bytes @ ..] if *got == word as u8 && *at == step as u8 => {
            Ok(Parcel { bytes: bytes.to_vec(), fds: message.fds })
        }
        [got, _, bytes @ ..] if *got == Word::Failed as u8 => Err(decode(bytes)),
        _ => Err(Error::new(Kind::Other, format!("the partner is not at step {step:?}"))),
    }
}

/// A failure as it crosses.
#[derive(Serialize, Deserialize)]
struct Crossing<'a> {
    kind: u8,
    context: Vec<Cow<'a, str>>,
    call: Option<Cow<'a, str>>,
    text: Cow<'a, str>,
    errno: i32,
}

const KINDS: [Kind; 7] =
    [Kind::Other, Kind::Invalid, Kind::Unsupported, Kind::Exists, Kind::NotFound, Kind::NotRunning, Kind::WrongState];

/// A failure as bytes: for the link.
pub fn encode(error: &Error) -> Vec<u8> {
    encode_within(error, LONGEST - 2)
}

/// A failure as so many bytes at the most. A hook may have printed at length: the middle of the sentence is what is lost,
/// as hooks say why they fail last.
pub fn encode_within(error: &Error, longest: usize) -> Vec<u8> {
    let kind = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or_default() as u8;
    let context = error.context().iter().map(|words| Cow::Borrowed(words.as_ref())).collect();
    let crossing = match error.cause() {
        Cause::Refused(refused) => Crossing {
            kind,
            context,
            call: Some(Cow::Borrowed(&refused.call)),
            text: Cow::Borrowed(&refused.args),
            errno: refused.errno as i32,
        },
        Cause::Said(text) => Crossing { kind, context, call: None, text: Cow::Borrowed(text), errno: 0 },
    };
    let mut bytes = serde_json::to_vec(&crossing).unwrap_or_default();
    let (text, mut half) = (error.to_string(), longest / 2);
    // JSON may need several bytes for one.
    while bytes.len() > longest && half > 0 {
        half /= 2;
        let text = without_middle(&text, half).into();
        bytes =
            serde_json::to_vec(&Crossing { kind, context: Vec::new(), call: None, text, errno: 0 }).unwrap_or_default();
    }
    bytes
}

/// About so many bytes of a text's beginning, and of its end.
fn without_middle(text: &str, half: usize) -> String {
    let head: String = text.char_indices().take_while(|(at, _)| *at < half).map(|(_, c)| c).collect();
    let tail: String = text.char_indices().skip_while(|(at, _)| at + half < text.len()).map(|(_, c)| c).collect();
    format!("{head}[...]{tail}")
}

/// A failure from bytes; what cannot be read becomes a failure that says so.
pub fn decode(bytes: &[u8]) -> Error {
    let Ok(crossing) = serde_json::from_slice::<Crossing<'_>>(bytes) else {
        return Error::new(Kind::Other, "the container's init failed and could not say why");
    };
    let kind = KINDS.get(usize::from(crossing.kind)).copied().unwrap_or_default();
    let context = crossing.context.into_iter().map(|words| Cow::Owned(words.into_owned())).collect();
    let text = crossing.text.into_owned();
    let cause = match crossing.call {
        Some(call) => Cause::Refused(Refused {
            call: Cow::Owned(call.into_owned()),
            args: text,
            errno: Errno::from_raw(crossing.errno),
        }),
        None => Cause::Said(text.into()),
    };
    Error::from_parts(kind, context, cause)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failure_crosses_whole() {
        let refused = Refused { call: "move_mount".into(), args: "[9], \"\"".into(), errno: Errno::EINVAL };
        let error: Error = Err::<(), _>(refused).doing("attach mount").at(|| "mounts[3] (/data)".into()).unwrap_err();
        assert_eq!(decode(&encode(&error)), error);
        assert_eq!(
            error.to_string(),
            "mounts[3] (/data): attach mount: move_mount([9], \"\"): invalid argument (EINVAL)"
        );
    }

    #[test]
    fn a_long_failure_crosses_shortened() {
        for long in ["x", "\"\n", "\u{1}", "\u{20ac}"] {
            let error = Error::new(Kind::Invalid, format!("begins {} ends", long.repeat(100_000)));
            for longest in [100, 4096, LONGEST - 2] {
                let bytes = encode_within(&error, longest);
                assert!(bytes.len() <= longest, "{} of {longest}", bytes.len());
                let arrived = decode(&bytes);
                assert_eq!(arrived.kind(), Kind::Invalid);
                let text = arrived.to_string();
                assert!(longest == 100 || text.starts_with("begins ") && text.ends_with(" ends"), "{text}");
            }
        }
    }

    /// Whether its end is noticed by sending or by waiting, and whether or not it read all that it was sent.
    #[test]
    fn a_partner_that_ended_is_still_heard() {
        for unread in [false, true] {
            let (parent, init) = pair().unwrap();
            if unread {
                parent.go(Step::MapIds).unwrap();
            }
            init.failed(Step::BuildRoot, &Error::new(Kind::Invalid, "mounts[0]: no such option"));
            drop(init);
            let told = if unread {
                parent.wait_for_done(Step::Ready).unwrap_err()
            } else {
                parent.go(Step::Limit).unwrap_err()
            };
            assert_eq!(told.to_string(), "mounts[0]: no such option", "{unread}");
        }
    }

    #[test]
    fn noise_is_a_failure_too() {
        for noise in [&b""[..], b"{", b"\xff\xff", b"{\"kind\":200}"] {
            assert!(decode(noise).to_string().contains("could not say why"));
        }
    }

    #[test]
    fn the_partner_is_heard_or_missed() {
        let (ours, theirs) = pair().unwrap();
        theirs.done(Step::Ready, b"payload", &[]).unwrap();
        assert_eq!(ours.wait_for_done(Step::Ready).unwrap().bytes, b"payload");
        theirs.failed(Step::Enter, &Error::new(Kind::Other, "no"));
        assert_eq!(ours.wait_for_done(Step::Ready).unwrap_err().to_string(), "no");
        drop(theirs);
        assert!(ours.wait_for_done(Step::Ready).unwrap_err().to_string().contains("died before step Ready"));
    }
}
