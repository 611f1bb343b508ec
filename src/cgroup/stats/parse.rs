//! The kernel's formats (admin-guide/cgroup-v1, cgroup-v2.rst), as text. Pure.
//!
//! A line that is not as expected is passed over: a newer kernel adds lines, and no number is worth failing for.

use std::collections::BTreeMap;

use super::{BlockIoEntry, BlockIoStats, Psi, PsiShare, RdmaEntry, UNLIMITED};

/// A number, or `max`. v1 has files with negative ones, which mean nothing here.
pub(super) fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => UNLIMITED,
        text => text.parse().unwrap_or(0),
    }
}

/// Lines of a key and a number.
pub(super) fn pairs(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), number(value)))
    };
    text.lines().filter_map(pair).collect()
}

/// Numbers in a row.
pub(super) fn row(text: &str) -> Vec<u64> {
    text.split_whitespace().map(number).collect()
}

/// Lines of a processor, its time in processes, and its time in the kernel, below a headline.
pub(super) fn usage_all(text: &str) -> (Vec<u64>, Vec<u64>) {
    let times = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((number(fields.next()?), number(fields.next()?)))
    });
    times.unzip()
}

/// A list of processors or memory nodes, `0-3,7`.
pub(super) fn list(text: &str) -> Vec<u16> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            numbers.extend(first..=last);
        }
    }
    numbers
}

/// v1: `8:0 Read 4096`, `8:0 512`, and a line of the total, which has no device.
pub(super) fn block_io(text: &str) -> Vec<BlockIoEntry> {
    let entry = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let (op, value) = rest.rsplit_once(' ').unwrap_or(("", rest));
        Some(BlockIoEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.to_owned(),
            value: value.trim().parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

/// v2's `io.stat`: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
pub(super) fn io_stat(text: &str, stats: &mut BlockIoStats) {
    for line in text.lines() {
        let mut fields = line.split(' ');
        let Some((major, minor)) = fields.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut stats.service_bytes, "Read"),
                "wbytes" => (&mut stats.service_bytes, "Write"),
                "dbytes" => (&mut stats.service_bytes, "Discard"),
                "rios" => (&mut stats.serviced, "Read"),
                "wios" => (&mut stats.serviced, "Write"),
                "dios" => (&mut stats.serviced, "Discard"),
                _ => continue,
            };
            list.push(BlockIoEntry { major, minor, op: op.to_owned(), value: number(value) });
        }
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and a line for `full`.
pub(super) fn psi(text: &str) -> Option<Psi> {
    let mut psi = Psi::default();
    let mut found = false;
    for line in text.lines() {
        let mut fields = line.split(' ');
        let share = match fields.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        found = true;
        let mut read = PsiShare::default();
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            match key {
                "avg10" => read.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => read.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => read.avg300 = value.parse().unwrap_or(0.0),
                "total" => read.total = number(value),
                _ => {}
            }
        }
        *share = read;
    }
    found.then_some(psi)
}

/// `mlx5_0 hca_handle=2 hca_object=max`.
pub(super) fn rdma(text: &str) -> Vec<RdmaEntry> {
    let entry = |line: &str| {
        let mut fields = line.split_whitespace();
        let mut entry = RdmaEntry { device: fields.next()?.to_owned(), ..RdmaEntry::default() };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let value = u32::try_from(number(value)).unwrap_or(u32::MAX);
            match key {
                "hca_handle" => entry.hca_handles = value,
                "hca_object" => entry.hca_objects = value,
                _ => {}
            }
        }
        Some(entry)
    };
    text.lines().filter_map(entry).collect()
}

/// `hugepages-2048kB` of /sys/kernel/mm/hugepages is `2MB` in the names of the controller's files.
pub(super) fn huge_page_size(name: &str) -> Option<String> {
    let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kilobytes {
        size if size >= 1 << 20 => format!("{}GB", size >> 20),
        size if size >= 1 << 10 => format!("{}MB", size >> 10),
        size => format!("{size}KB"),
    })
}

/// Reads the same text as every format: for the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) fn all(text: &str) -> Option<()> {
    drop((pairs(text), row(text), usage_all(text), block_io(text), rdma(text)));
    io_stat(text, &mut BlockIoStats::default());
    // A number of text may be as many as there are processors.
    if text.len() < 100 {
        list(text);
    }
    psi(text)?;
    huge_page_size(text).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn numbers_and_lists() {
        assert_eq!((number("42\n"), number("max\n"), number("-1"), number("")), (42, UNLIMITED, 0, 0));
        assert_eq!(row("1 2  3 \n"), [1, 2, 3]);
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(list("\n"), [0_u16; 0]);
        let stat = pairs("usage_usec 5\nnr_periods 0\nodd\n");
        assert_eq!((stat["usage_usec"], stat.len()), (5, 2));
        assert_eq!(usage_all("cpu user system\n0 5 6\n1 7 8\n"), (vec![5, 7], vec![6, 8]));
    }

    #[test]
    fn block_devices_of_v1() {
        let text = "8:0 Read 100\n8:0 Write 200\n8:0 Async 10\n8:0 Total 500\n252:1 77\nTotal 500\n";
        let found = block_io(text);
        let shown: Vec<_> = found.iter().map(|e| (e.major, e.minor, e.op.as_str(), e.value)).collect();
        let expected =
            [(8, 0, "Read", 100), (8, 0, "Write", 200), (8, 0, "Async", 10), (8, 0, "Total", 500), (252, 1, "", 77)];
        assert_eq!(shown, expected);
        assert_eq!(block_io("Total 0\n"), []);
    }

    #[test]
    fn block_devices_of_v2() {
        let mut stats = BlockIoStats::default();
        io_stat(
            "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7\n7:0 \n252:0 rbytes=9\nx y=1\n",
            &mut stats,
        );
        let shown = |list: &[BlockIoEntry]| -> Vec<(u64, String, u64)> {
            list.iter().map(|entry| (entry.major, entry.op.clone(), entry.value)).collect()
        };
        let of = |major, op: &str, value| (major, op.to_owned(), value);
        assert_eq!(
            shown(&stats.service_bytes),
            [of(8, "Read", 1), of(8, "Write", 2), of(8, "Discard", 5), of(252, "Read", 9)]
        );
        assert_eq!(shown(&stats.serviced), [of(8, "Read", 3), of(8, "Write", 4), of(8, "Discard", 6)]);
    }

    #[test]
    fn pressure() {
        let text =
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=123\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=45\n";
        let found = psi(text).unwrap();
        assert_eq!((found.some.avg10, found.some.avg60, found.some.total), (1.5, 0.25, 123));
        assert_eq!((found.full.avg10, found.full.total), (0.5, 45));
        // Before Linux 5.13 there is no line for full of the processor.
        assert_eq!(psi("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n").unwrap().full, PsiShare::default());
        assert_eq!(psi(""), None);
    }

    #[test]
    fn devices_of_rdma_and_huge_pages() {
        let found = rdma("mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n");
        assert_eq!((found[0].hca_handles, found[0].hca_objects), (2, 2000));
        assert_eq!((found[1].device.as_str(), found[1].hca_objects), ("ocrdma1", u32::MAX));
        let sizes = ["hugepages-64kB", "hugepages-2048kB", "hugepages-1048576kB"];
        assert_eq!(sizes.map(|name| huge_page_size(name).unwrap()), ["64KB", "2MB", "1GB"]);
        assert_eq!(huge_page_size("other"), None);
    }
}
