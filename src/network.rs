//! The network namespace: the loopback interface, and devices moved into it (config-linux.md#network-devices).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use specconv::NetDevice;

use crate::error::{Context, Error, Kind, Result};
use crate::sys::Errno;
use crate::sys::file::{CWD, Mode, OFlags, openat};
use crate::sys::namespace::setns;
use crate::sys::netlink::{self, Answer, CREATE_NEW, DUMP, route_socket};

/// Message kinds and attributes, named as in linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h.
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFF_UP: u32 = 1;
const IFA_F_PERMANENT: u32 = 0x80;
/// NODAD, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN: what an administrator chose for an address.
const IFA_F_CHOSEN: u32 = 0x02 | 0x100 | 0x200 | 0x400;
const RT_SCOPE_UNIVERSE: u8 = 0;

/// Lengths of ifinfomsg and ifaddrmsg, the fixed parts of link and address messages.
const LINK: usize = 16;
const ADDRESS: usize = 8;

/// Brings `lo` up in the caller's (new) network namespace.
pub fn bring_loopback_up() -> Result<()> {
    netlink::bring_up(c"lo").doing("bring the loopback interface up")
}

/// Devices that were moved; kept until nothing can fail any more.
#[derive(Debug, Default)]
pub struct Moved {
    devices: Vec<Device>,
    /// `None` where nothing was to be moved.
    ways: Option<Ways>,
}

/// A moved device, and what it was on the host.
#[derive(Debug)]
struct Device {
    /// Its name on the host, and its name inside.
    host: String,
    name: String,
    was_up: bool,
    addresses: Vec<Address>,
}

/// Both namespaces, each with a socket in it.
#[derive(Debug)]
struct Ways {
    home: OwnedFd,
    at_home: OwnedFd,
    inside: OwnedFd,
}

/// Moves network devices of the caller's namespace into `netns`, under the names asked for.
///
/// Move and rename are one step, so that a name taken inside only matters if it is the one asked for. Permanent
/// global addresses, which the kernel drops on the way, are set again; then the device is brought up. When one of
/// the devices fails, all are given back.
pub fn move_devices(devices: &[NetDevice], netns: BorrowedFd<'_>) -> Result<Moved> {
    let mut moved = Moved::default();
    if devices.is_empty() {
        return Ok(moved);
    }
    let ways = Ways::open(netns).doing("reach both network namespaces")?;
    let ways = moved.ways.insert(ways);
    for device in devices {
        if let Err(error) = ways.carry(device, netns, &mut moved.devices) {
            let _ = moved.give_back();
            return Err(error).doing("move network device").at(|| format!("linux.netDevices[{:?}]", device.host));
        }
    }
    Ok(moved)
}

impl Moved {
    /// Moves the devices back, under their old names and with their old addresses: the undo of [`move_devices`].
    ///
    /// When the container's namespace just ends, the kernel gives physical devices back but destroys virtual ones.
    /// Goes on after a failure, and tells the first. Routes are not restored.
    pub fn give_back(self) -> Result<()> {
        let Some(ways) = self.ways else { return Ok(()) };
        let mut outcome = Ok(());
        for device in self.devices.iter().rev() {
            let done = ways.carry_back(device).doing_with(|| format!("give network device {:?} back", device.host));
            outcome = outcome.and(done);
        }
        outcome
    }
}

impl Ways {
    fn open(netns: BorrowedFd<'_>) -> Result<Ways> {
        let at_home = route_socket()?;
        let home = openat(CWD, Path::new("/proc/thread-self/ns/net"), OFlags::RDONLY, Mode::empty())?;
        setns(netns, libc::CLONE_NEWNET as u64)?;
        // A socket stays in the namespace it was made in. Whether it was made or not: back first.
        let inside = route_socket();
        setns(home.as_fd(), libc::CLONE_NEWNET as u64).doing("return from the container's network namespace")?;
        Ok(Ways { home, at_home, inside: inside? })
    }

    fn carry(&self, wanted: &NetDevice, netns: BorrowedFd<'_>, moved: &mut Vec<Device>) -> Result<()> {
        let found = match Link::find(&self.at_home, &wanted.host) {
            Err(error) if error.errno() == Some(Errno::ENODEV) => {
                return Err(error).doing_with(|| format!("there is no network device {:?}", wanted.host));
            }
            other => other?,
        };
        let addresses = Address::all_of(&self.at_home, found.index)?;
        let name = self.name_inside(&wanted.name)?;
        let mut device =
            Device { host: wanted.host.clone(), name: name.clone(), was_up: found.flags & IFF_UP != 0, addresses };
        if let Err(error) = found.send_to(&self.at_home, netns, &name) {
            // A name that is taken is noticed only after the move, which is then not undone.
            if Link::find(&self.at_home, &wanted.host).is_err() {
                device.name = wanted.host.clone();
                moved.push(device);
            }
            return Err(error);
        }
        let settled = device.settle(&self.inside, &device.name, true);
        moved.push(device);
        settled
    }

    /// A template's `%d` becomes the lowest number that is free, as the kernel would have it. It is not left to the kernel,
    /// which does not tell what it chose.
    fn name_inside(&self, wanted: &str) -> Result<String> {
        /// As many as the kernel tries (__dev_alloc_name).
        const MOST: u32 = 32_768;
        let Some(stem) = wanted.strip_suffix("%d") else { return Ok(wanted.to_owned()) };
        for name in (0..MOST).map(|number| format!("{stem}{number}")) {
            match Link::find(&self.inside, &name) {
                Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(name),
                other => other?,
            };
        }
        Err(Error::new(Kind::Other, format!("no number is left for {wanted:?}")))
    }

    fn carry_back(&self, device: &Device) -> Result<()> {
        let found = Link::find(&self.inside, &device.name)?;
        found.send_to(&self.inside, self.home.as_fd(), &device.host)?;
        device.settle(&self.at_home, &device.host, device.was_up)
    }
}

impl Device {
    /// Sets the addresses, and brings the device up where it shall be.
    fn settle(&self, socket: &OwnedFd, name: &str, up: bool) -> Result<()> {
        let link = Link::find(socket, name)?;
        for address in &self.addresses {
            address.add(socket, link.index)?;
        }
        if up { link.bring_up(socket) } else { Ok(()) }
    }
}

/// A device in one namespace.
#[derive(Debug, Clone, Copy)]
struct Link {
    index: u32,
    flags: u32,
}

impl Link {
    fn find(socket: &OwnedFd, name: &str) -> Result<Link> {
        let mut message = Message::new(&[0; LINK]);
        message.text(IFLA_IFNAME, name)?;
        let answers = netlink::request(socket.as_fd(), "RTM_GETLINK", RTM_GETLINK, 0, &message.bytes)?;
        answers
            .iter()
            .find(|answer| answer.kind == RTM_NEWLINK)
            .and_then(|answer| Some(Link { index: u32_at(&answer.body, 4)?, flags: u32_at(&answer.body, 8)? }))
            .ok_or_else(|| Error::new(Kind::Other, "the kernel's answer to RTM_GETLINK is too short"))
    }

    /// Takes it down, moves and renames it, in one request: nobody can use it half-way.
    fn send_to(&self, socket: &OwnedFd, netns: BorrowedFd<'_>, name: &str) -> Result<()> {
        let mut message = self.change(0);
        message.attribute(IFLA_NET_NS_FD, &(netns.as_raw_fd() as u32).to_ne_bytes())?;
        message.text(IFLA_IFNAME, name)?;
        netlink::request(socket.as_fd(), "RTM_NEWLINK, IFLA_NET_NS_FD", RTM_NEWLINK, 0, &message.bytes)?;
        Ok(())
    }

    fn bring_up(&self, socket: &OwnedFd) -> Result<()> {
        netlink::request(socket.as_fd(), "RTM_NEWLINK, IFF_UP", RTM_NEWLINK, 0, &self.change(IFF_UP).bytes)?;
        Ok(())
    }

    /// Begins a message that sets IFF_UP as in `flags`.
    fn change(&self, flags: u32) -> Message {
        let mut fixed = [0; LINK];
        for (place, field) in fixed.chunks_exact_mut(4).zip([0, self.index, flags, IFF_UP]) {
            place.copy_from_slice(&field.to_ne_bytes());
        }
        Message::new(&fixed)
    }
}

/// An address as the kernel told it, with what makes sense on another device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST and IFA_RT_PRIORITY, those that are there.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// The permanent global addresses of a device.
    fn all_of(socket: &OwnedFd, index: u32) -> Result<Vec<Address>> {
        let answers = netlink::request(socket.as_fd(), "RTM_GETADDR", RTM_GETADDR, DUMP, &[0; ADDRESS])?;
        Ok(answers.iter().filter_map(|answer| Address::read(answer, index)).collect())
    }

    fn read(answer: &Answer, index: u32) -> Option<Address> {
        let [family, prefix, flags, scope, _, _, _, _] = *answer.body.first_chunk::<ADDRESS>()?;
        if answer.kind != RTM_NEWADDR || scope != RT_SCOPE_UNIVERSE || u32_at(&answer.body, 4)? != index {
            return None;
        }
        let mut address = Address { family, prefix, flags: flags.into(), attributes: Vec::new() };
        for (kind, value) in attributes(answer.body.get(ADDRESS..)?) {
            match kind {
                IFA_FLAGS => address.flags = u32_at(value, 0)?,
                IFA_LOCAL | IFA_ADDRESS | IFA_BROADCAST | IFA_RT_PRIORITY => {
                    address.attributes.push((kind, value.to_vec()));
                }
                _ => {}
            }
        }
        (address.flags & IFA_F_PERMANENT != 0).then_some(address)
    }

    fn add(&self, socket: &OwnedFd, index: u32) -> Result<()> {
        let [i0, i1, i2, i3] = index.to_ne_bytes();
        let mut message = Message::new(&[self.family, self.prefix, 0, RT_SCOPE_UNIVERSE, i0, i1, i2, i3]);
        for (kind, value) in &self.attributes {
            message.attribute(*kind, value)?;
        }
        message.attribute(IFA_FLAGS, &(self.flags & IFA_F_CHOSEN).to_ne_bytes())?;
        netlink::request(socket.as_fd(), "RTM_NEWADDR", RTM_NEWADDR, CREATE_NEW, &message.bytes)?;
        Ok(())
    }
}

/// A message's fixed part and its attributes.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(fixed: &[u8]) -> Message {
        Message { bytes: fixed.to_vec() }
    }

    /// Adds an attribute. Its length has 16 bits: a longer value would run into what follows (CVE-2021-43784).
    fn attribute(&mut self, kind: u16, value: &[u8]) -> Result<()> {
        let length = u16::try_from(value.len() + 4)
            .map_err(|_| Error::new(Kind::Invalid, format!("a netlink attribute of {} bytes", value.len())))?;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        Ok(())
    }

    fn text(&mut self, kind: u16, text: &str) -> Result<()> {
        if text.is_empty() || text.len() >= libc::IFNAMSIZ || text.bytes().any(|byte| byte == 0) {
            return Err(Error::new(Kind::Invalid, format!("{text:?} cannot be the name of a network device")));
        }
        self.attribute(kind, format!("{text}\0").as_bytes())
    }
}

/// The attributes in a message, as far as they are well-formed.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two highest bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
        Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
    })
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    bytes.get(place..)?.first_chunk().map(|value| u32::from_ne_bytes(*value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::sys::namespace::unshare;
    use std::fs::File;
    use std::process::Command;

    fn here() -> OwnedFd {
        File::open("/proc/thread-self/ns/net").unwrap().into()
    }

    fn enter(netns: &OwnedFd) {
        setns(netns.as_fd(), libc::CLONE_NEWNET as u64).unwrap();
    }

    /// Two new namespaces, the caller's thread being in the first.
    fn two_namespaces() -> (OwnedFd, OwnedFd) {
        unshare(libc::CLONE_NEWNET as u64).unwrap();
        let inside = here();
        unshare(libc::CLONE_NEWNET as u64).unwrap();
        (here(), inside)
    }

    fn ip(arguments: &str) -> String {
        let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn device(host: &str, name: &str) -> NetDevice {
        NetDevice { host: host.into(), name: name.into() }
    }

    #[test]
    fn attributes_cannot_overflow_their_length() {
        let mut message = Message::new(&[]);
        message.attribute(1, &[7; 5]).unwrap();
        message.text(3, "eth0").unwrap();
        assert_eq!(message.bytes.len() % 4, 0);
        let read: Vec<_> = attributes(&message.bytes).collect();
        assert_eq!(read, [(1, &[7; 5][..]), (3, &b"eth0\0"[..])]);
        assert!(message.attribute(1, &[0; 65532]).is_err());
        assert!(message.attribute(1, &[0; 70000]).is_err());
        assert!(message.text(3, "sixteen-letters!").is_err());
        assert_eq!(attributes(&[3, 0, 1, 0, 0]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0, 0]).count(), 0);
    }

    #[test]
    fn loopback_comes_up() {
        unshare(libc::CLONE_NEWNET as u64).unwrap();
        assert!(ip("link show lo").contains("state DOWN"));
        bring_loopback_up().unwrap();
        let after = ip("addr show lo");
        assert!(after.contains("<LOOPBACK,UP,") && after.contains("inet 127.0.0.1/8"), "{after}");
    }

    #[test]
    fn a_device_moves_with_name_and_addresses_and_can_be_given_back() {
        let (home, inside) = two_namespaces();
        ip("link add v0 type veth peer name v1");
        ip("addr add 10.1.2.3/24 brd 10.1.2.255 dev v0");
        ip("addr add 10.1.2.4/24 dev v0");
        ip("addr add 169.254.7.7/16 scope link dev v0");
        ip("addr add 10.9.9.9/32 valid_lft 100 preferred_lft 100 dev v0");
        ip("addr add fd00::5/64 dev v0 nodad");
        ip("link set v0 up");
        let moved = move_devices(&[device("v0", "eth0")], inside.as_fd()).unwrap();
        assert!(!ip("link").contains("v0"), "still on the host");

        enter(&inside);
        let there = ip("addr show eth0");
        for expected in ["inet 10.1.2.3/24 brd 10.1.2.255", "inet 10.1.2.4/24", "inet6 fd00::5/64", ",UP"] {
            assert!(there.contains(expected), "{expected} not in {there}");
        }
        assert!(!there.contains("169.254.7.7") && !there.contains("10.9.9.9"), "{there}");

        enter(&home);
        moved.give_back().unwrap();
        let back = ip("addr show v0");
        assert!(back.contains("inet 10.1.2.3/24") && back.contains(",UP"), "{back}");
        enter(&inside);
        assert!(!ip("link").contains("eth0"));
    }

    #[test]
    fn all_or_none_and_the_error_names_the_device() {
        let (home, inside) = two_namespaces();
        ip("link add v0 type veth peer name v1");
        let error = move_devices(&[device("v0", "a"), device("nope0", "b")], inside.as_fd()).unwrap_err();
        let message = error.to_string();
        assert!(
            message
                .starts_with("linux.netDevices[\"nope0\"]: move network device: there is no network device \"nope0\":"),
            "{message}"
        );
        assert!(ip("link show v0").contains("v0"), "v0 did not come back");
        // A name that is taken inside.
        enter(&inside);
        ip("link add taken type veth peer name other");
        enter(&home);
        let error = move_devices(&[device("v0", "taken")], inside.as_fd()).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EEXIST), "{error}");
        assert!(ip("link show v0").contains("v0"), "v0 did not come back");
        // We are still at home.
        assert_eq!(rustix::fs::fstat(here()).unwrap().st_ino, rustix::fs::fstat(home).unwrap().st_ino);
    }
}
