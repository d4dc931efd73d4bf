//! The machine and kernel a run happens on: what a reader needs in order to compare two results.
//!
//! Reads /proc and /sys and never fails: a file that cannot be read leaves its field empty. The parsers are pure, so
//! machines that nobody here has can be tested. The network device is described by `nic`.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use nix::sys::utsname::uname;

use super::nic;
use crate::proto::facts::Environment;

/// Describes this machine, with the network device that holds `local` (an address of the run's own sockets).
pub fn capture(local: Option<IpAddr>) -> Environment {
    let (host, kernel) = host_and_kernel();
    let cpuinfo = read_text("/proc/cpuinfo").unwrap_or_default();
    let ipv4 = |name: &str| read_text(Path::new("/proc/sys/net/ipv4").join(name)).unwrap_or_default();
    Environment {
        host,
        kernel,
        cpu_model: cpu_model(&cpuinfo),
        cores: cores(),
        memory_bytes: read_text("/proc/meminfo").and_then(|text| parse_memory(&text)).unwrap_or(0),
        governor: read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        virtualisation: virtualisation(&cpuinfo),
        nic: local.and_then(nic::capture),
        congestion_control: ipv4("tcp_congestion_control").trim().to_owned(),
        congestion_available: permitted(words(&ipv4("tcp_available_congestion_control"))),
        tcp_rmem: parse_triple(&ipv4("tcp_rmem")).unwrap_or_default(),
        tcp_wmem: parse_triple(&ipv4("tcp_wmem")).unwrap_or_default(),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        git_commit: env!("LINERATE_COMMIT").to_owned(),
        time: now(),
    }
}

/// What a loopback link uses where nobody chose: a congestion control that paces would wait for its own timers.
const UNPACED: [&str; 2] = ["cubic", "reno"];

/// Whether a congestion control may space out what it sends.
pub fn paces(congestion: &str) -> bool {
    !UNPACED.contains(&congestion)
}

/// The first congestion control that does not pace and is permitted.
pub fn unpaced(is_permitted: impl Fn(&str) -> bool) -> Option<&'static str> {
    UNPACED.into_iter().find(|name| is_permitted(name))
}

/// What connections within this machine should use where nobody chose; nothing where the system's default is as good.
pub fn congestion_of_loopback() -> Option<&'static str> {
    let default = read_line("/proc/sys/net/ipv4/tcp_congestion_control")?;
    let permitted = || permitted(UNPACED.map(str::to_string).to_vec());
    paces(&default).then(|| unpaced(|name| permitted().iter().any(|has| has == name)))?
}

/// Version and commit of this program: `0.1.0 (1a2b3c4d5e)`.
pub fn version() -> String {
    format!("{} ({})", env!("CARGO_PKG_VERSION"), env!("LINERATE_COMMIT"))
}

/// Most of a file of /proc or /sys that is read, bytes: the first of many CPUs is enough.
const TEXT_BYTES_MAX: u64 = 64 << 10;

/// The beginning of a file, what is not UTF-8 replaced.
pub(super) fn read_text(path: impl AsRef<Path>) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(TEXT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A file of one line, without blanks and zeros around it; nothing if that leaves nothing.
fn read_line(path: impl AsRef<Path>) -> Option<String> {
    let text = read_text(path)?;
    let line = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!line.is_empty()).then(|| line.to_owned())
}

/// The name of this machine.
pub fn host() -> String {
    host_and_kernel().0
}

fn host_and_kernel() -> (String, String) {
    let Ok(uts) = uname() else {
        return Default::default();
    };
    let kernel = format!("{} {}", uts.sysname().to_string_lossy(), uts.release().to_string_lossy());
    (uts.nodename().to_string_lossy().into_owned(), kernel)
}

/// RFC 3339, UTC, whole seconds.
fn now() -> String {
    format!("{:.0}", Timestamp::now())
}

fn cpu_model(cpuinfo: &str) -> String {
    let device_tree = || read_line("/proc/device-tree/model");
    parse_cpu_model(cpuinfo).or_else(device_tree).unwrap_or_else(|| "unknown".to_owned())
}

/// The name of the CPU, under whichever key the architecture has it.
fn parse_cpu_model(cpuinfo: &str) -> Option<String> {
    // x86, MIPS, POWER.
    let named = ["model name", "cpu model", "cpu"].into_iter().find_map(|key| field(cpuinfo, key));
    if let Some(name) = named {
        return Some(name.to_owned());
    }
    let implementer = field(cpuinfo, "CPU implementer")?;
    let part = field(cpuinfo, "CPU part")?;
    let known = |&&(i, p, _): &&(&str, &str, &str)| i == implementer && p == part;
    Some(match ARM_CORES.iter().find(known) {
        Some((_, _, name)) => (*name).to_owned(),
        None => format!("ARM implementer {implementer} part {part}"),
    })
}

/// 64-bit ARM names no model, only numbers: those of servers and boards that carry fast links.
const ARM_CORES: [(&str, &str, &str); 13] = [
    ("0x41", "0xd03", "Cortex-A53"),
    ("0x41", "0xd08", "Cortex-A72"),
    ("0x41", "0xd0b", "Cortex-A76"),
    ("0x41", "0xd0c", "Neoverse-N1"),
    ("0x41", "0xd40", "Neoverse-V1"),
    ("0x41", "0xd49", "Neoverse-N2"),
    ("0x41", "0xd4f", "Neoverse-V2"),
    ("0x41", "0xd83", "Neoverse-V3AE"),
    ("0x41", "0xd84", "Neoverse-V3"),
    ("0x41", "0xd8e", "Neoverse-N3"),
    ("0x48", "0xd01", "Kunpeng-920"),
    ("0xc0", "0xac3", "Ampere-1"),
    ("0xc0", "0xac4", "Ampere-1a"),
];

/// The first value of `key` in lines of `key : value`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = pairs.filter(|(found, _)| found.trim() == key).map(|(_, value)| value.trim());
    values.find(|value| !value.is_empty())
}

/// CPUs online, whichever of them this process may use.
fn cores() -> u32 {
    let usable = || std::thread::available_parallelism().ok().and_then(|cores| u32::try_from(cores.get()).ok());
    let online = read_text("/sys/devices/system/cpu/online").and_then(|text| parse_cpu_list(&text));
    online.or_else(usable).unwrap_or(0)
}

/// The number of CPUs in a list such as `0-3,5`.
fn parse_cpu_list(text: &str) -> Option<u32> {
    let mut count = 0_u32;
    for item in text.trim().split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

/// `MemTotal` of /proc/meminfo, bytes.
fn parse_memory(meminfo: &str) -> Option<u64> {
    let kib = field(meminfo, "MemTotal")?.strip_suffix("kB")?.trim_end();
    kib.parse::<u64>().ok()?.checked_mul(1024)
}

/// Three numbers: minimum, default, maximum.
fn parse_triple(text: &str) -> Option<[u64; 3]> {
    let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    numbers.try_into().ok()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Signs of a hypervisor or container, as the files of this machine show them.
fn virtualisation(cpuinfo: &str) -> Option<String> {
    let dmi = Path::new("/sys/class/dmi/id");
    describe_virtualisation(&Signs {
        flagged: has_hypervisor_flag(cpuinfo),
        hypervisor_type: read_line("/sys/hypervisor/type"),
        vendor: read_line(dmi.join("sys_vendor")),
        product: read_line(dmi.join("product_name")),
        docker: Path::new("/.dockerenv").exists(),
        podman: Path::new("/run/.containerenv").exists(),
        // Only root may read it, and only the first process of a container has it.
        init_container: read_text("/proc/1/environ").and_then(|text| parse_init_container(&text)),
    })
}

/// What betrays a virtual machine or a container.
#[derive(Default)]
struct Signs {
    /// The CPU says so.
    flagged: bool,
    /// /sys/hypervisor/type: Xen's own.
    hypervisor_type: Option<String>,
    /// DMI vendor of the system.
    vendor: Option<String>,
    /// DMI product name.
    product: Option<String>,
    /// Docker's mark in the root directory.
    docker: bool,
    /// Podman's mark in /run.
    podman: bool,
    /// `container=` of the first process's environment.
    init_container: Option<String>,
}

/// Vendors and products that are always virtual: ARM has no flag to tell.
const VIRTUAL_NAMES: [&str; 8] =
    ["QEMU", "KVM", "VMware", "innotek", "VirtualBox", "Xen", "Google Compute Engine", "Virtual Machine"];

fn describe_virtualisation(signs: &Signs) -> Option<String> {
    let names = [&signs.vendor, &signs.product];
    let dmi = names.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ");
    let is_virtual =
        signs.flagged || signs.hypervisor_type.is_some() || VIRTUAL_NAMES.iter().any(|name| dmi.contains(name));
    let hypervisor = is_virtual.then(|| match &signs.hypervisor_type {
        Some(name) => format!("hypervisor {name} {dmi}").trim_end().to_owned(),
        None if dmi.is_empty() => "hypervisor".to_owned(),
        None => format!("hypervisor {dmi}"),
    });
    let container = match &signs.init_container {
        Some(name) => Some(format!("container {name}")),
        None if signs.docker => Some("container docker".to_owned()),
        None if signs.podman => Some("container podman".to_owned()),
        None => None,
    };
    let found: Vec<String> = [hypervisor, container].into_iter().flatten().collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// x86: the CPU's flag for "runs under a hypervisor".
fn has_hypervisor_flag(cpuinfo: &str) -> bool {
    field(cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"))
}

/// The value of `container` among zero-terminated variables.
fn parse_init_container(environ: &str) -> Option<String> {
    let value = environ.split('\0').find_map(|variable| variable.strip_prefix("container="))?;
    (!value.is_empty()).then(|| value.to_owned())
}

/// Those congestion controls that this process may choose: without privilege only the kernel's allowed ones.
fn permitted(names: Vec<String>) -> Vec<String> {
    let Ok(sock) = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None) else { return names };
    names.into_iter().filter(|name| sock.set_tcp_congestion(name.as_bytes()).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const X86: &str = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 2\nmodel name\t: AMD EPYC 9R14\n\
        flags\t\t: fpu vme hypervisor lahf_lm\n\nprocessor\t: 1\nmodel name\t: other\n";
    const ARM: &str = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n\
        CPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n";

    #[test]
    fn cpus_are_named_on_every_architecture() {
        let unknown_arm = ARM.replace("0xd0c", "0xfff");
        let table = [
            (X86, Some("AMD EPYC 9R14")),
            (ARM, Some("Neoverse-N1")),
            (unknown_arm.as_str(), Some("ARM implementer 0x41 part 0xfff")),
            ("cpu\t\t: POWER9, altivec supported\n", Some("POWER9, altivec supported")),
            ("model name\t:\n", None),
            ("", None),
        ];
        for (text, name) in table {
            assert_eq!(parse_cpu_model(text).as_deref(), name, "{text}");
        }
    }

    #[test]
    fn cpus_online_are_counted() {
        let table = [
            ("0\n", Some(1)),
            ("0-3", Some(4)),
            ("0-3,5,8-9\n", Some(7)),
            ("", None),
            ("3-0", None),
            ("0-4294967295", None),
            ("a-b", None),
        ];
        for (text, count) in table {
            assert_eq!(parse_cpu_list(text), count, "{text:?}");
        }
    }

    #[test]
    fn memory_and_buffer_limits_are_read_in_bytes() {
        assert_eq!(parse_memory("MemTotal:       16384 kB\nMemFree:  1 kB\n"), Some(16 << 20));
        for text in ["", "MemTotal: 16384\n", "MemTotal: x kB\n", "MemTotal: 18446744073709551615 kB\n"] {
            assert_eq!(parse_memory(text), None, "{text}");
        }
        assert_eq!(parse_triple("4096\t131072\t6291456\n"), Some([4096, 131_072, 6_291_456]));
        for text in ["", "1 2", "1 2 3 4", "1 2 x"] {
            assert_eq!(parse_triple(text), None, "{text}");
        }
        assert_eq!(words("reno cubic bbr\n"), ["reno", "cubic", "bbr"]);
    }

    #[test]
    fn virtual_machines_and_containers_are_told() {
        let text = |text: &str| Some(text.to_owned());
        let dmi = |vendor, product| Signs { vendor: text(vendor), product: text(product), ..Signs::default() };
        let table = [
            (Signs::default(), None),
            (dmi("Dell Inc.", "PowerEdge R750"), None),
            (dmi("Amazon EC2", "c7g.metal"), None),
            (Signs { flagged: true, ..dmi("Amazon EC2", "m7i.large") }, Some("hypervisor Amazon EC2 m7i.large")),
            (dmi("QEMU", "Standard PC"), Some("hypervisor QEMU Standard PC")),
            (Signs { flagged: true, docker: true, ..Signs::default() }, Some("hypervisor, container docker")),
            (Signs { hypervisor_type: text("xen"), ..Signs::default() }, Some("hypervisor xen")),
            (Signs { podman: true, ..Signs::default() }, Some("container podman")),
            (Signs { init_container: text("lxc"), docker: true, ..Signs::default() }, Some("container lxc")),
        ];
        for (signs, expected) in table {
            assert_eq!(describe_virtualisation(&signs).as_deref(), expected);
        }
        assert!(has_hypervisor_flag(X86) && !has_hypervisor_flag(ARM));
        assert_eq!(parse_init_container("A=b\0container=lxc\0C=d\0").as_deref(), Some("lxc"));
        assert_eq!(parse_init_container("A=container=b\0container=\0"), None);
    }

    #[test]
    fn this_machine_can_be_described() {
        let environment = capture(Some(IpAddr::from([127, 0, 0, 1])));
        assert!(environment.kernel.starts_with("Linux "), "{environment:?}");
        assert!(environment.cores > 0 && environment.memory_bytes > 1 << 20, "{environment:?}");
        assert_eq!(environment.nic.map(|nic| nic.name).as_deref(), Some("lo"));
        assert_eq!(capture(None).nic, None);
    }

    #[test]
    fn the_time_is_utc_in_whole_seconds() {
        let time = now();
        assert_eq!(time.len(), "2026-01-31T23:59:59Z".len(), "{time}");
        assert!(time.ends_with('Z') && time.parse::<Timestamp>().is_ok(), "{time}");
    }

    #[test]
    fn the_version_names_the_commit() {
        assert_eq!(version(), format!("{} ({})", env!("CARGO_PKG_VERSION"), env!("LINERATE_COMMIT")));
    }

    proptest! {
        #[test]
        fn no_text_can_make_it_panic(text: String, list in "[0-9,-]{0,40}", pairs in "(MemTotal|flags|model name)?:[0-9 kB]{0,24}") {
            for text in [&text, &list, &pairs] {
                let _ = (parse_cpu_model(text), parse_cpu_list(text), parse_memory(text), parse_triple(text));
                let _ = (has_hypervisor_flag(text), parse_init_container(text));
            }
        }
    }
}
