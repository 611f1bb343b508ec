//! A client of D-Bus: as much of it as talking to systemd takes.
//!
//! One connection for one command, no thread, and no wait without an end: systemd may be too busy to answer, and a
//! runtime that hangs with it makes things worse. A connection goes either straight to systemd (its private socket,
//! where there is no bus to say hello to, and where every signal comes unasked), or to a bus.
//!
//! Why not a crate: docs/architecture.md, "cgroups".

pub mod wire;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use wire::{Kind, Message, Value};

use crate::error::{self, Context, Error, Result};
use crate::sys::descriptor::{self, Progress, Watch};
use crate::sys::{Errno, refused, socket};

/// The bus itself, as a partner.
const BUS: &str = "org.freedesktop.DBus";

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The socket; `@name` for an abstract one.
    pub path: PathBuf,
    /// Whether a bus listens there, and not systemd itself.
    pub is_bus: bool,
}

impl Address {
    /// The Unix sockets in a list of addresses, as `DBUS_SESSION_BUS_ADDRESS` has it
    /// (`unix:path=/run/user/1000/bus,guid=..;unix:abstract=/tmp/x`). Other kinds of address are passed over.
    pub fn parse(list: &str) -> Vec<Address> {
        let socket = |address: &str| {
            let (key, value) = address
                .strip_prefix("unix:")?
                .split(',')
                .find_map(|pair| pair.split_once('=').filter(|(key, _)| matches!(*key, "path" | "abstract")))?;
            let value = unescape(value)?;
            let path = if key == "abstract" { format!("@{value}") } else { value };
            Some(Address { path: path.into(), is_bus: true })
        };
        list.split(';').filter_map(socket).collect()
    }
}

/// Undoes `%41` (the specification, "Server Addresses").
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(rest.next()?)? << 4 | digit(rest.next()?)?);
    }
    String::from_utf8(bytes).ok()
}

/// A method of an object.
#[derive(Debug, Clone, Copy)]
pub struct Method<'a> {
    /// Whose.
    pub service: &'a str,
    /// The object.
    pub object: &'a str,
    /// Its interface.
    pub interface: &'a str,
    /// The method.
    pub name: &'a str,
}

/// Why a call came to nothing.
#[derive(Debug)]
pub enum Failure {
    /// The other side refused it.
    Refused {
        /// Name of the error, as `org.freedesktop.systemd1.UnitExists`.
        name: String,
        /// What it says about it.
        message: String,
        /// The call and the address.
        call: String,
    },
    /// It could not be asked, or did not answer.
    Broken(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Refused { name, message, call } => {
                Error::new(error::Kind::Other, format!("{call}: {name}: {message}"))
            }
            Failure::Broken(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Broken(error)
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    address: Address,
    deadline: Instant,
    serial: u32,
    /// What is to be sent with the next call.
    outbox: Vec<u8>,
    /// Bytes that are not a message yet.
    inbox: Vec<u8>,
    /// Signals that came before anybody waited for one.
    signals: Vec<Message>,
    /// Calls whose answer nobody waits for; a refusal spoils the next wait.
    unattended: Vec<(u32, String)>,
}

impl Connection {
    /// Connects and says who we are. All that is done on the connection must be done within `patience`.
    ///
    /// We name our own user id; where the other side does not believe it -- the two live in different user
    /// namespaces -- it is asked to take what the kernel tells it (an empty EXTERNAL, which systemd knows since 246).
    ///
    /// # Errors
    /// Nobody listens or may be asked there.
    pub fn open(address: &Address, patience: Duration) -> Result<Connection> {
        let deadline = Instant::now() + patience;
        let own = rustix::process::geteuid().as_raw().to_string();
        let own: String = own.bytes().map(|digit| format!("{digit:02x}")).collect();
        let connect = |words: &str| -> Result<Option<Connection>> {
            let mut connection = Connection::connect(address, deadline)?;
            Ok(connection.authenticate(words)?.then_some(connection))
        };
        let open = || -> Result<Connection> {
            let named = connect(&format!("\0AUTH EXTERNAL {own}\r\nBEGIN\r\n"))?;
            let connection = match named {
                Some(connection) => Some(connection),
                None => connect("\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?,
            };
            connection.ok_or_else(|| Error::new(error::Kind::Other, "does not take us for who we are (AUTH EXTERNAL)"))
        };
        let mut connection = open().doing_with(|| format!("connect to D-Bus at {}", address.path.display()))?;
        if address.is_bus {
            connection.push(bus("Hello"), &[], true);
        }
        Ok(connection)
    }

    fn connect(address: &Address, deadline: Instant) -> Result<Connection> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let socket = socket::connect_unix_within(&address.path, left)?;
        descriptor::set_nonblocking(&socket)?;
        Ok(Connection {
            socket,
            address: address.clone(),
            deadline,
            serial: 0,
            outbox: Vec::new(),
            inbox: Vec::new(),
            signals: Vec::new(),
            unattended: Vec::new(),
        })
    }

    /// Whether the other side accepted us (the specification, "Authentication Protocol").
    fn authenticate(&mut self, words: &str) -> Result<bool> {
        self.outbox.extend(words.as_bytes());
        self.flush()?;
        loop {
            while let Some(end) = self.inbox.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.inbox.drain(..end + 2).collect();
                match line.as_slice() {
                    line if line.starts_with(b"OK ") => return Ok(true),
                    line if line.starts_with(b"REJECTED") || line.starts_with(b"ERROR") => return Ok(false),
                    // `DATA`: our answer is already on its way.
                    _ => {}
                }
            }
            self.fill("the authentication")?;
        }
    }

    /// Asks the bus for a signal of systemd's manager; without a bus it comes unasked.
    pub fn subscribe(&mut self, service: &str, object: &str, interface: &str, name: &str) {
        if self.address.is_bus {
            let rule =
                format!("type='signal',sender='{service}',path='{object}',interface='{interface}',member='{name}'");
            self.push(bus("AddMatch"), &[Value::Text(rule)], true);
        }
    }

    /// Calls a method and waits for its answer: the values, and who gave it, as the bus says.
    ///
    /// # Errors
    /// A refusal, a connection that ended, or no answer in time.
    pub fn call(&mut self, method: Method<'_>, arguments: &[Value]) -> std::result::Result<Answer, Failure> {
        let told = || format!("{}({})", method.name, first_text(arguments));
        let serial = self.push(method, arguments, false);
        self.flush().doing_with(told)?;
        loop {
            let message = self.message(&told())?;
            if message.kind == Kind::Signal {
                self.signals.push(message);
            } else if message.reply_to == serial {
                if message.kind == Kind::Error {
                    return Err(self.refusal(&message, &told()));
                }
                let Some(values) = message.values() else {
                    return Err(self.senseless(&told()).into());
                };
                return Ok(Answer { values, sender: message.sender });
            } else if let Some(at) = self.unattended.iter().position(|(serial, _)| *serial == message.reply_to) {
                let (_, name) = self.unattended.swap_remove(at);
                if message.kind == Kind::Error {
                    return Err(self.refusal(&message, &name));
                }
            }
        }
    }

    /// Waits for a signal for which `wanted` has an answer. `sender` is who must have sent it, by its name on the
    /// bus: a bus lets everybody send anything.
    ///
    /// # Errors
    /// A connection that ended, or no such signal in time.
    pub fn wait<T>(&mut self, what: &str, sender: &str, mut wanted: impl FnMut(&Message) -> Option<T>) -> Result<T> {
        let mut signals = std::mem::take(&mut self.signals).into_iter();
        loop {
            let message = match signals.next() {
                Some(signal) => signal,
                None => self.message(what)?,
            };
            if message.kind == Kind::Signal
                && message.sender == sender
                && let Some(found) = wanted(&message)
            {
                return Ok(found);
            }
        }
    }

    fn push(&mut self, method: Method<'_>, arguments: &[Value], unattended: bool) -> u32 {
        self.serial += 1;
        // Without a bus there is nobody else to address.
        let service = if self.address.is_bus { method.service } else { "" };
        let mut message = Message::call(service, method.object, method.interface, method.name, arguments);
        message.serial = self.serial;
        self.outbox.extend(message.encode());
        if unattended {
            self.unattended.push((self.serial, format!("{}()", method.name)));
        }
        self.serial
    }

    fn flush(&mut self) -> Result<()> {
        while !self.outbox.is_empty() {
            match socket::send_with_fds(&self.socket, &self.outbox, &[]) {
                Ok(sent) => drop(self.outbox.drain(..sent.min(self.outbox.len()))),
                Err(refused) if refused.errno == Errno::EAGAIN => {
                    let left = self.left("to take what we send")?;
                    descriptor::poll(&[Watch::Write(self.socket.as_fd())], Some(left))?;
                }
                Err(refused) => return Err(Error::from(refused)).doing_with(|| self.place()),
            }
        }
        Ok(())
    }

    fn message(&mut self, what: &str) -> Result<Message> {
        loop {
            match Message::take(&mut self.inbox) {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => self.fill(what)?,
                Err(why) => return Err(Error::new(error::Kind::Other, format!("{}: {why}", self.place()))),
            }
        }
    }

    /// Reads what there is, or waits for it.
    fn fill(&mut self, what: &str) -> Result<()> {
        let mut buffer = [0_u8; 4096];
        loop {
            match descriptor::read(&self.socket, &mut buffer).doing_with(|| self.place())? {
                Progress::Bytes(length) => {
                    self.inbox.extend(buffer.iter().take(length));
                    return Ok(());
                }
                Progress::Over => {
                    let why = format!("{}: the connection was closed before {what} was answered", self.place());
                    return Err(Error::new(error::Kind::Other, why));
                }
                Progress::Later => {
                    let left = self.left(what)?;
                    descriptor::poll(&[Watch::Read(self.socket.as_fd())], Some(left))?;
                }
            }
        }
    }

    /// The time that is left; ETIMEDOUT where there is none.
    fn left(&self, what: &str) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(refused!("poll", "{}, {what}", self.place())(Errno::ETIMEDOUT).into());
        }
        Ok(left)
    }

    fn place(&self) -> String {
        format!("D-Bus at {}", self.address.path.display())
    }

    fn refusal(&self, message: &Message, call: &str) -> Failure {
        let text = match message.values().as_deref() {
            Some([Value::Text(text), ..]) => text.clone(),
            _ => String::new(),
        };
        Failure::Refused { name: message.error.clone(), message: text, call: format!("{}: {call}", self.place()) }
    }

    /// An answer that is not what the method gives.
    pub fn senseless(&self, call: &str) -> Error {
        Error::new(error::Kind::Other, format!("{}: {call}: the answer makes no sense", self.place()))
    }
}

/// What a call gave.
#[derive(Debug)]
pub struct Answer {
    /// The values.
    pub values: Vec<Value>,
    /// Who gave it, by its name on the bus; empty without a bus.
    pub sender: String,
}

fn bus(name: &str) -> Method<'_> {
    Method { service: BUS, object: "/org/freedesktop/DBus", interface: BUS, name }
}

/// For messages: the unit that most calls begin with.
fn first_text(arguments: &[Value]) -> String {
    match arguments.first() {
        Some(Value::Text(text)) => format!("{text:?}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn addresses_are_lists_with_escapes() {
        let bus = |path: &str| Address { path: path.into(), is_bus: true };
        let cases = [
            ("unix:path=/run/user/1000/bus", vec![bus("/run/user/1000/bus")]),
            ("unix:guid=1,path=/a%20b,x=y;unix:abstract=/tmp/z", vec![bus("/a b"), bus("@/tmp/z")]),
            ("tcp:host=a;unix:tmpdir=/tmp;nonsense", vec![]),
            ("unix:path=%4", vec![]),
        ];
        for (text, expected) in cases {
            assert_eq!(Address::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn who_never_answers_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("orlop-dbus-{}", std::process::id()));
        let silent = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let address = Address { path: path.clone(), is_bus: false };
        let error = Connection::open(&address, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ETIMEDOUT), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        drop(silent);
        let error = Connection::open(&address, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ECONNREFUSED), "{error}");
        std::fs::remove_file(&path).unwrap();
    }
}
