//! Values and messages of D-Bus, as bytes (the D-Bus specification, "Type System" and "Message Protocol").
//!
//! Only what a client of systemd needs: no dictionaries, no descriptors, and the byte order of this machine, since
//! the other end is on it. Decoding is total and takes no length on faith.

use std::borrow::Cow;

/// Largest message that is read. systemd tells everybody on its private socket of every unit that changes; the
/// specification's own limit is 128 MiB.
pub const LONGEST: usize = 4 << 20;

/// How deep types may lie in one another: 32 arrays and 32 structs.
const DEEPEST_TYPE: u32 = 64;

/// How deep values may that are read.
const DEEPEST: u32 = 16;

/// What a message begins with on a machine of this byte order.
const ORDER: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    Double(f64),
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a`, with the type of its elements, which an empty one does not show.
    Array(Cow<'static, str>, Vec<Value>),
    /// `(...)`
    Struct(Vec<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// A string.
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// An array of strings: `as`.
    pub fn texts(texts: impl IntoIterator<Item = String>) -> Value {
        Value::Array(Cow::Borrowed("s"), texts.into_iter().map(Value::Text).collect())
    }

    /// Its type.
    pub fn signature(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Value::Byte(_) => "y",
            Value::Bool(_) => "b",
            Value::I16(_) => "n",
            Value::U16(_) => "q",
            Value::I32(_) => "i",
            Value::U32(_) => "u",
            Value::I64(_) => "x",
            Value::U64(_) => "t",
            Value::Double(_) => "d",
            Value::Text(_) => "s",
            Value::Path(_) => "o",
            Value::Signature(_) => "g",
            Value::Variant(_) => "v",
            Value::Array(element, _) => return Cow::Owned(format!("a{element}")),
            Value::Struct(fields) => {
                let fields: String = fields.iter().map(|field| field.signature()).collect();
                return Cow::Owned(format!("({fields})"));
            }
        })
    }

    /// Appends it, aligned as its type wants.
    fn encode(&self, out: &mut Vec<u8>) {
        pad(out, alignment(self.signature().as_bytes().first().copied().unwrap_or_default()));
        match self {
            Value::Byte(number) => out.push(*number),
            Value::Bool(truth) => out.extend(u32::from(*truth).to_ne_bytes()),
            Value::I16(number) => out.extend(number.to_ne_bytes()),
            Value::U16(number) => out.extend(number.to_ne_bytes()),
            Value::I32(number) => out.extend(number.to_ne_bytes()),
            Value::U32(number) => out.extend(number.to_ne_bytes()),
            Value::I64(number) => out.extend(number.to_ne_bytes()),
            Value::U64(number) => out.extend(number.to_ne_bytes()),
            Value::Double(number) => out.extend(number.to_ne_bytes()),
            Value::Text(text) | Value::Path(text) => {
                out.extend(length(text.len()));
                out.extend(text.as_bytes());
                out.push(0);
            }
            Value::Signature(text) => {
                out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                out.extend(text.as_bytes());
                out.push(0);
            }
            Value::Array(element, values) => {
                let at = out.len();
                out.extend(length(0));
                // The padding before the first element does not count.
                pad(out, alignment(element.bytes().next().unwrap_or_default()));
                let first = out.len();
                values.iter().for_each(|value| value.encode(out));
                let bytes = length(out.len() - first);
                if let Some(place) = out.get_mut(at..at + bytes.len()) {
                    place.copy_from_slice(&bytes);
                }
            }
            Value::Struct(fields) => fields.iter().for_each(|field| field.encode(out)),
            Value::Variant(value) => {
                Value::Signature(value.signature().into_owned()).encode(out);
                value.encode(out);
            }
        }
    }
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_ne_bytes()
}

fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

/// To what a type is aligned, by its first letter.
fn alignment(letter: u8) -> usize {
    match letter {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' => 4,
        b'x' | b't' | b'd' | b'(' => 8,
        _ => 1,
    }
}

/// The first complete type of a signature, and what comes after it; `None` where it has none that we know, or one that is
/// deeper than the specification allows.
pub fn first_type(signature: &str) -> Option<(&str, &str)> {
    first_type_at(signature, 0)
}

fn first_type_at(signature: &str, depth: u32) -> Option<(&str, &str)> {
    if depth > DEEPEST_TYPE {
        return None;
    }
    let bytes = signature.as_bytes();
    let end = match bytes.first()? {
        b'a' => 1 + first_type_at(signature.get(1..)?, depth + 1)?.0.len(),
        b'(' => {
            let mut rest = signature.get(1..)?;
            if rest.starts_with(')') {
                return None;
            }
            while !rest.starts_with(')') {
                rest = first_type_at(rest, depth + 1)?.1;
            }
            signature.len() - rest.len() + 1
        }
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v' => 1,
        _ => return None,
    };
    signature.split_at_checked(end)
}

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A method is called.
    Call = 1,
    /// It was done.
    Return = 2,
    /// It was refused.
    Error = 3,
    /// Something has happened.
    Signal = 4,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What kind it is.
    pub kind: Kind,
    /// Its number among the sender's.
    pub serial: u32,
    /// The object: a path.
    pub path: String,
    /// The interface of the member.
    pub interface: String,
    /// The method or signal.
    pub member: String,
    /// The error's name.
    pub error: String,
    /// The number of the call that this answers; 0 where it answers none.
    pub reply_to: u32,
    /// For whom it is; empty on a connection without a bus.
    pub destination: String,
    /// Who sent it, as the bus says.
    pub sender: String,
    /// The types of the body.
    pub signature: String,
    /// The body, still as bytes.
    pub body: Vec<u8>,
}

impl Message {
    /// A method call.
    pub fn call(destination: &str, path: &str, interface: &str, member: &str, arguments: &[Value]) -> Message {
        let mut body = Vec::new();
        arguments.iter().for_each(|argument| argument.encode(&mut body));
        Message {
            kind: Kind::Call,
            serial: 0,
            path: path.to_owned(),
            interface: interface.to_owned(),
            member: member.to_owned(),
            error: String::new(),
            reply_to: 0,
            destination: destination.to_owned(),
            sender: String::new(),
            signature: arguments.iter().map(Value::signature).collect(),
            body,
        }
    }

    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![ORDER, self.kind as u8, 0, 1];
        out.extend(length(self.body.len()));
        out.extend(self.serial.to_ne_bytes());
        let texts = [
            (1, Value::Path(self.path.clone()), &self.path),
            (2, Value::Text(self.interface.clone()), &self.interface),
            (3, Value::Text(self.member.clone()), &self.member),
            (4, Value::Text(self.error.clone()), &self.error),
            (6, Value::Text(self.destination.clone()), &self.destination),
            (7, Value::Text(self.sender.clone()), &self.sender),
            (8, Value::Signature(self.signature.clone()), &self.signature),
        ];
        let field = |code: u8, value| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
        let mut fields: Vec<Value> = texts
            .into_iter()
            .filter(|(_, _, text)| !text.is_empty())
            .map(|(code, value, _)| field(code, value))
            .collect();
        if self.reply_to != 0 {
            fields.push(field(5, Value::U32(self.reply_to)));
        }
        Value::Array(Cow::Borrowed("(yv)"), fields).encode(&mut out);
        pad(&mut out, 8);
        out.extend(&self.body);
        out
    }

    /// Takes the first message from the bytes that came; `Ok(None)` where it is not complete yet.
    ///
    /// # Errors
    /// What is no message, in words.
    pub fn take(bytes: &mut Vec<u8>) -> Result<Option<Message>, &'static str> {
        let mut head = Reader { bytes, at: 0 };
        let (Some([order, kind, _, version]), Some(body), Some(serial), Some(fields)) =
            (head.take::<4>(), head.u32(), head.u32(), head.u32())
        else {
            return Ok(None);
        };
        if order != ORDER || version != 1 {
            return Err("not a message of D-Bus in this machine's byte order");
        }
        let kind = match kind {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return Err("a message of an unknown kind"),
        };
        let (body, fields) = (body as usize, fields as usize);
        if body > LONGEST || fields > LONGEST {
            return Err("a message that is too long");
        }
        let start = (16 + fields).next_multiple_of(8);
        let Some(whole) = bytes.get(..start + body) else { return Ok(None) };
        let mut message = Message::call("", "", "", "", &[]);
        (message.kind, message.serial) = (kind, serial);
        let header = whole.get(..16 + fields).unwrap_or_default();
        message.read_fields(header).ok_or("a message whose header makes no sense")?;
        message.body = whole.get(start..).unwrap_or_default().to_vec();
        bytes.drain(..start + body);
        Ok(Some(message))
    }

    fn read_fields(&mut self, header: &[u8]) -> Option<()> {
        let mut reader = Reader { bytes: header, at: 16 };
        while reader.at < header.len() {
            reader.align(8)?;
            let [code] = reader.take()?;
            let value = reader.variant(0)?;
            match (code, value) {
                (1, Value::Path(path)) => self.path = path,
                (2, Value::Text(text)) => self.interface = text,
                (3, Value::Text(text)) => self.member = text,
                (4, Value::Text(text)) => self.error = text,
                (5, Value::U32(serial)) => self.reply_to = serial,
                (6, Value::Text(text)) => self.destination = text,
                (7, Value::Text(text)) => self.sender = text,
                (8, Value::Signature(text)) => self.signature = text,
                _ => {}
            }
        }
        Some(())
    }

    /// The values of the body; `None` where it is not what its signature says, or has types that are not read here.
    pub fn values(&self) -> Option<Vec<Value>> {
        let mut reader = Reader { bytes: &self.body, at: 0 };
        let mut values = Vec::new();
        let mut rest = self.signature.as_str();
        while !rest.is_empty() {
            let (first, after) = first_type(rest)?;
            values.push(reader.value(first, 0)?);
            rest = after;
        }
        Some(values)
    }
}

/// Reads values one after the other.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.bytes.get(self.at..)?.get(..N)?.try_into().ok()?;
        self.at += N;
        Some(taken)
    }

    fn align(&mut self, alignment: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(alignment);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    /// As many bytes of text, and the zero behind them.
    fn text(&mut self, length: usize) -> Option<String> {
        let text = self.bytes.get(self.at..)?.get(..length)?;
        self.at += length;
        let [0] = self.take()? else { return None };
        String::from_utf8(text.to_vec()).ok()
    }

    fn variant(&mut self, depth: u32) -> Option<Value> {
        let [length] = self.take()?;
        let signature = self.text(usize::from(length))?;
        let (first, "") = first_type(&signature)? else { return None };
        self.value(first, depth)
    }

    fn value(&mut self, signature: &str, depth: u32) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        let letter = *signature.as_bytes().first()?;
        self.align(alignment(letter))?;
        Some(match letter {
            b'y' => Value::Byte(u8::from_ne_bytes(self.take()?)),
            b'b' => Value::Bool(self.u32()? != 0),
            b'n' => Value::I16(i16::from_ne_bytes(self.take()?)),
            b'q' => Value::U16(u16::from_ne_bytes(self.take()?)),
            b'i' => Value::I32(i32::from_ne_bytes(self.take()?)),
            b'u' => Value::U32(self.u32()?),
            b'x' => Value::I64(i64::from_ne_bytes(self.take()?)),
            b't' => Value::U64(u64::from_ne_bytes(self.take()?)),
            b'd' => Value::Double(f64::from_ne_bytes(self.take()?)),
            b's' | b'o' => {
                let length = self.u32()? as usize;
                let text = self.text(length)?;
                if letter == b's' { Value::Text(text) } else { Value::Path(text) }
            }
            b'g' => {
                let [length] = self.take()?;
                Value::Signature(self.text(usize::from(length))?)
            }
            b'v' => Value::Variant(Box::new(self.variant(depth + 1)?)),
            b'(' => {
                let mut fields = Vec::new();
                let mut rest = signature.get(1..signature.len().checked_sub(1)?)?;
                while !rest.is_empty() {
                    let (first, after) = first_type(rest)?;
                    fields.push(self.value(first, depth + 1)?);
                    rest = after;
                }
                Value::Struct(fields)
            }
            b'a' => {
                let element = signature.get(1..)?;
                let length = self.u32()? as usize;
                self.align(alignment(*element.as_bytes().first()?))?;
                let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
                let mut values = Vec::new();
                while self.at < end {
                    values.push(self.value(element, depth + 1)?);
                }
                Value::Array(Cow::Owned(element.to_owned()), values)
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn example() -> Vec<Value> {
        let pair = |a: &str, b| Value::Struct(vec![Value::text(a), Value::Variant(Box::new(b))]);
        vec![
            Value::text("web.scope"),
            Value::Array(
                Cow::Borrowed("(sv)"),
                vec![
                    pair("Delegate", Value::Bool(true)),
                    pair("PIDs", Value::Array(Cow::Borrowed("u"), vec![Value::U32(7)])),
                    pair("MemoryMax", Value::U64(u64::MAX)),
                    pair("AllowedCPUs", Value::Array(Cow::Borrowed("y"), vec![Value::Byte(3), Value::Byte(1)])),
                    pair("Wants", Value::texts(["a.slice".to_owned()])),
                    pair("Ratio", Value::Double(0.5)),
                ],
            ),
            Value::Array(Cow::Borrowed("(sa(sv))"), Vec::new()),
            Value::Path("/a".to_owned()),
            Value::I16(-2),
        ]
    }

    #[test]
    fn a_message_comes_back_as_it_was_sent() {
        let mut sent = Message::call("org.freedesktop.systemd1", "/org", "i.f", "StartTransientUnit", &example());
        (sent.serial, sent.reply_to) = (9, 4);
        let mut bytes = sent.encode();
        bytes.extend(b"more");
        assert_eq!(sent.signature, "sa(sv)a(sa(sv))on");
        let got = Message::take(&mut bytes).unwrap().unwrap();
        assert_eq!(bytes, b"more");
        assert_eq!(got, sent);
        assert_eq!(got.values().unwrap(), example());
    }

    /// The bytes that sd-bus writes for the same call, but for the order of the header's fields.
    #[test]
    fn the_layout_is_the_specifications() {
        let mut hello =
            Message::call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", &[]);
        hello.serial = 1;
        let bytes = hello.encode();
        assert_eq!(bytes.len() % 8, 0);
        assert_eq!(&bytes[..16], &[ORDER, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 109, 0, 0, 0]);
        assert_eq!(&bytes[16..24], &[1, 1, b'o', 0, 21, 0, 0, 0]);
    }

    #[test]
    fn no_bytes_are_taken_on_faith() {
        let mut whole = Message::call("d", "/p", "i.f", "M", &example()).encode();
        for end in 0..whole.len() {
            assert_eq!(Message::take(&mut whole[..end].to_vec()).unwrap(), None, "{end}");
        }
        // Whatever one byte says, the answer is a message, a refusal or a wish for more; never a panic.
        for at in 0..whole.len() {
            for byte in [0, 1, 7, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[at] = byte;
                if let Ok(Some(message)) = Message::take(&mut broken) {
                    let _ = message.values();
                }
            }
        }
        assert!(Message::take(&mut vec![0xff; 64]).is_err());
        whole[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(Message::take(&mut whole).unwrap_err().contains("too long"));
        let deep =
            Message { signature: "a".repeat(40) + "y", body: vec![0; 400], ..Message::call("", "", "", "", &[]) };
        assert_eq!(deep.values().map(|values| values.len()), Some(1));
        let nested = Message { signature: "(".repeat(40) + "y" + &")".repeat(40), ..deep };
        assert_eq!(nested.values(), None);
    }

    #[test]
    fn types_are_found_one_by_one() {
        assert_eq!(first_type("a(ss)u"), Some(("a(ss)", "u")));
        assert_eq!(first_type("(sa(sv))"), Some(("(sa(sv))", "")));
        for bad in ["", "a", "(", "()", "(s", "z", "a{sv}", "é"] {
            assert_eq!(first_type(bad), None, "{bad}");
        }
    }
}
