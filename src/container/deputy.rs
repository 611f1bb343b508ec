//! A process of our own program that forks in place of a caller with threads.
//!
//! A fork copies one thread, and with it the locks that others held; so [`create`] and [`Container::exec`] refuse a
//! caller who has more than one. A [`Deputy`] does both for such a caller, by the same requests and with the same
//! answers and errors: orlop's program is started as posix_spawn(3) would, seals itself against the container as it
//! does for the command line, is told the request over a socket, and answers with handles.
//!
//! What it starts is not the caller's child. Its end can be waited for ([`Process::wait_for_end`]); how it ended is
//! told to whom orphans fall to, which is the caller if it is a subreaper (PR_SET_CHILD_SUBREAPER).

use std::ffi::{CString, OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Container, Created, ExecRequest, Execed, Process, Request, create};
use crate::error::{Context, Error, Kind, Result};
use crate::launch::{decode, encode};
use crate::signal;
use crate::sys::{descriptor, process, refused, socket, spawn};

/// The command that the program is called with, before the number of the socket.
pub const COMMAND: &str = "deputy";

/// Longest answer: the words of a failure, or a list of warnings.
const LONGEST: usize = 1 << 20;

/// orlop's program, which makes containers in place of a caller with threads.
#[derive(Debug, Clone)]
pub struct Deputy {
    program: PathBuf,
}

#[derive(Serialize, Deserialize)]
enum Errand {
    Create(Box<Request>),
    Exec { root: PathBuf, id: String, request: Box<ExecRequest> },
}

#[derive(Serialize, Deserialize)]
enum Answer {
    /// The process, whose handle comes along, and after it the master of its terminal where there is one to serve.
    Done { pid: i32, warnings: Vec<String> },
    /// The error, as init would send it.
    Failed(Vec<u8>),
}

impl Deputy {
    /// Where orlop's program is: the one that belongs to this version of the library.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Deputy { program: program.into() }
    }

    /// As [`create`]. Standard input, output and error, the working directory and the environment are the caller's, and
    /// so are the descriptors of [`Request::preserve_fds`], if they are not close-on-exec.
    ///
    /// # Errors
    /// As [`create`]; and a program that cannot be started, or that ends without an answer.
    pub fn create(&self, request: &Request) -> Result<Created> {
        let errand = Errand::Create(Box::new(request.clone()));
        let (init, foreground, warnings) = self.send(&errand, request.preserve_fds)?;
        Ok(Created { container: Container::load(&request.root, &request.id)?, init, foreground, warnings })
    }

    /// As [`Container::exec`], and as [`Deputy::create`] about what the process inherits.
    ///
    /// # Errors
    /// As both.
    pub fn exec(&self, container: &Container, request: &ExecRequest) -> Result<Execed> {
        let root = container.dir.path().parent().map(PathBuf::from).unwrap_or_default();
        let errand = Errand::Exec { root, id: container.id().to_owned(), request: Box::new(request.clone()) };
        let (process, foreground, warnings) = self.send(&errand, request.preserve_fds)?;
        Ok(Execed { process, foreground, warnings })
    }

    fn send(&self, errand: &Errand, preserved: u32) -> Result<(Process, Option<OwnedFd>, Vec<String>)> {
        const DOING: &str = "have a deputy do it";
        let (mut ours, theirs) = UnixStream::pair().map_err(refused!("socketpair")).doing(DOING)?;
        // Above what the container is to inherit.
        let least = i32::try_from(preserved).unwrap_or(i32::MAX - 3) + 3;
        let high = rustix::io::fcntl_dupfd_cloexec(&theirs, least)
            .map_err(refused!("fcntl", "F_DUPFD_CLOEXEC, {least}"))
            .doing(DOING)?;
        let deputy = self.start(&high).doing(DOING)?;
        // The deputy's end is the end of the answer.
        drop((theirs, high));
        let told = serde_json::to_vec(errand).map_err(|why| Error::new(Kind::Other, why.to_string()))?;
        // One that has ended already says why, or its end does.
        let _ = ours.write_all(&told).and_then(|()| ours.shutdown(std::net::Shutdown::Write));
        let answer = hear(&mut ours);
        let ended = process::waitid(deputy.as_fd()).doing(DOING)?;
        match answer {
            Some((Answer::Failed(error), _)) => Err(decode(&error)),
            Some((Answer::Done { pid, warnings }, mut fds)) if !fds.is_empty() => {
                let pidfd = fds.remove(0);
                Ok((Process::new(pid, pidfd), fds.pop(), warnings))
            }
            _ => {
                Err(Error::new(Kind::Other, format!("the deputy has ended without an answer ({ended:?})"))).doing(DOING)
            }
        }
    }

    fn start(&self, socket: &OwnedFd) -> Result<process::Child> {
        let number = socket.as_raw_fd();
        let path = c_string(self.program.as_os_str())?;
        let args = [path.clone(), c_string(OsStr::new(COMMAND))?, c_string(OsStr::new(&number.to_string()))?];
        let variable = |(name, value): (OsString, OsString)| {
            c_string(&OsString::from_vec([name.as_bytes(), b"=", value.as_bytes()].concat()))
        };
        let env = std::env::vars_os().map(variable).collect::<Result<Vec<_>>>()?;
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let stdio = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let program = spawn::Program { path: &path, args: &args, env: &env, stdio };
        let started = spawn::spawn(&program, &mut || {
            signal::reset_all();
            descriptor::set_cloexec(number, false)
        });
        started.doing_with(|| format!("start {}", self.program.display()))
    }
}

/// The answer, with what came along; `None` for none.
fn hear(socket: &mut UnixStream) -> Option<(Answer, Vec<OwnedFd>)> {
    let mut text = vec![0; 64 * 1024];
    let received = socket::receive_with_fds(socket, &mut text).ok()?;
    text.truncate(received.length);
    Read::take(socket, LONGEST as u64).read_to_end(&mut text).ok()?;
    Some((serde_json::from_slice(&text).ok()?, received.fds))
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(|_nul| Error::invalid(text.display(), "there is a zero byte in it"))
}

/// The deputy's whole life: hears the errand at the socket of this number, does it, and answers. Returns the exit code.
///
/// `sealed` is what came of sealing the executable.
pub fn serve(number: &OsStr, sealed: Result<()>) -> u8 {
    let socket = number.to_str().and_then(|number| number.parse().ok()).map(descriptor::inherited);
    let Some(Ok(socket)) = socket else { return 1 };
    let mut socket = UnixStream::from(socket);
    let done = sealed.and_then(|()| run(&mut socket));
    let (answer, fds) = match &done {
        Ok((process, foreground, warnings)) => {
            let fds = std::iter::once(process.child().as_fd()).chain(foreground.as_ref().map(AsFd::as_fd)).collect();
            (Answer::Done { pid: process.pid(), warnings: warnings.clone() }, fds)
        }
        Err(error) => (Answer::Failed(encode(error)), Vec::new()),
    };
    let text = serde_json::to_vec(&answer).unwrap_or_default();
    let told = socket::send_with_fds(&socket, &text, &fds)
        .is_ok_and(|taken| socket.write_all(text.get(taken..).unwrap_or_default()).is_ok());
    u8::from(!told)
}

/// Whether these bytes are an errand or an answer, which then are written as they were: for the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) fn crosses_whole(bytes: &[u8]) -> bool {
    let same = |once: Vec<u8>, again: serde_json::Result<Vec<u8>>| again.is_ok_and(|again| once == again);
    let errand = |bytes: &[u8]| serde_json::from_slice::<Errand>(bytes).and_then(|errand| serde_json::to_vec(&errand));
    let answer = |bytes: &[u8]| serde_json::from_slice::<Answer>(bytes).and_then(|answer| serde_json::to_vec(&answer));
    match (errand(bytes), answer(bytes)) {
        (Ok(once), _) => same(once.clone(), errand(&once)),
        (_, Ok(once)) => same(once.clone(), answer(&once)),
        _ => true,
    }
}

fn run(socket: &mut UnixStream) -> Result<(Process, Option<OwnedFd>, Vec<String>)> {
    let mut text = Vec::new();
    socket.read_to_end(&mut text).map_err(refused!("read")).doing("hear what to do")?;
    let errand: Errand = serde_json::from_slice(&text)
        .map_err(|why| Error::new(Kind::Invalid, format!("the request of another version of orlop: {why}")))?;
    match errand {
        Errand::Create(request) => {
            let created = create(&request)?;
            Ok((created.init, created.foreground, created.warnings))
        }
        Errand::Exec { root, id, request } => {
            let execed = Container::load(&root, &id)?.exec(&request)?;
            Ok((execed.process, execed.foreground, execed.warnings))
        }
    }
}
