//! `[listeners]`: who connects where.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use banqiao_directory::SpiffeId;

use super::{
    AdminListener, Listeners, Role,
    document::path_in,
    files,
    raw::{Located, Section, parsed, socket_address},
};

/// Longest path of a Unix socket in bytes (`sun_path` of unix(7), less its terminator).
const MAX_SOCKET_PATH: usize = 107;

pub(super) fn read(mut section: Section<'_, '_>, base: &Path) -> Option<Listeners> {
    let client = address(section.section("client"), Some("\"0.0.0.0:8443\""));
    let inter_city = address(section.section("inter_city"), Some("\"0.0.0.0:8444\""));
    let ops = section
        .has("ops")
        .then(|| address(section.section("ops"), Some("\"127.0.0.1:9100\"")))
        .flatten();
    let (admin, admin_address) = admin(section.section("admin"), base);
    if let Some(ops) = &ops
        && ops.value.ip().is_unspecified()
    {
        let hint = "bind it to loopback or to an address of the operators' network: it asks for no certificate";
        section
            .faults()
            .warning(&ops.at, "is open to every network of this machine", hint);
    }
    clashes(
        &section,
        [
            client.as_ref(),
            inter_city.as_ref(),
            ops.as_ref(),
            admin_address.as_ref(),
        ],
    );
    // `ops` is known also where it is absent.
    let _ = section.section("ops");
    section.finish();
    Some(Listeners {
        client: client?.value,
        inter_city: inter_city?.value,
        ops: ops.map(|it| it.value),
        admin: admin?,
    })
}

fn address(mut section: Section<'_, '_>, example: Option<&str>) -> Option<Located<SocketAddr>> {
    let address = match example {
        Some(example) => section.required(
            "address",
            &format!("write address = {example}"),
            socket_address,
        ),
        None => section.optional("address", socket_address),
    };
    section.finish();
    address
}

/// Two listeners on one port of one address. Port 0 asks the system for a free one and never clashes.
fn clashes(section: &Section<'_, '_>, addresses: [Option<&Located<SocketAddr>>; 4]) {
    let addresses: Vec<_> = addresses.into_iter().flatten().collect();
    for (number, later) in addresses.iter().enumerate() {
        for earlier in &addresses[..number] {
            if overlap(earlier.value, later.value) {
                let problem = format!(
                    "{} is already the address of {}",
                    later.value, earlier.at.key
                );
                section
                    .faults()
                    .error(&later.at, problem, "give each listener a port of its own");
            }
        }
    }
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    // `[::]` takes IPv4 too on Linux unless told otherwise.
    let covers = |wide: IpAddr, narrow: IpAddr| {
        wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

/// The admin listener, and its address with its place.
fn admin(
    mut section: Section<'_, '_>,
    base: &Path,
) -> (Option<AdminListener>, Option<Located<SocketAddr>>) {
    let sockets = sockets(&mut section, base);
    let address = section.optional("address", socket_address);
    let mut roles_section = section.section("roles");
    let roles = Role::ALL.map(|role| {
        (
            role,
            roles_section.list(role.as_str(), parsed::<SpiffeId>("write SPIFFE IDs")),
        )
    });
    let roles = disjoint(&roles_section, roles);
    roles_section.finish();
    let faults = section.faults();
    if sockets.is_empty() && address.is_none() {
        let hint = "write administrator_socket, operator_socket and auditor_socket, or address and [listeners.admin.roles]";
        faults.error(section.at(), "has neither sockets nor an address", hint);
    }
    match &address {
        Some(address) if roles.is_empty() => {
            let hint = "list the identities of each role in [listeners.admin.roles]";
            faults.error(&address.at, "nobody could use this address", hint);
        }
        None if !roles.is_empty() => {
            let hint = "add address, or remove the roles: sockets carry their role themselves";
            faults.error(
                &section.place("roles"),
                "has no effect without an address",
                hint,
            );
        }
        _ => {}
    }
    section.finish();
    let listener = AdminListener {
        sockets: sockets
            .into_iter()
            .map(|(role, it)| (role, it.value))
            .collect(),
        address: address.as_ref().map(|it| (it.value, roles)),
    };
    (Some(listener), address)
}

/// The socket of each role that has one.
pub(super) fn sockets(section: &mut Section<'_, '_>, base: &Path) -> Vec<(Role, Located<PathBuf>)> {
    let keys = [
        (Role::Administrator, "administrator_socket"),
        (Role::Operator, "operator_socket"),
        (Role::Auditor, "auditor_socket"),
    ];
    let mut sockets: Vec<(Role, Located<PathBuf>)> = Vec::new();
    for (role, key) in keys {
        let Some(socket) = section.optional(key, path_in(base)) else {
            continue;
        };
        let length = socket.value.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            let problem = format!("the path has {length} bytes, more than {MAX_SOCKET_PATH}");
            section.faults().error(
                &socket.at,
                problem,
                "use a shorter folder, such as /run/banqiao",
            );
        }
        if let Some((other, _)) = sockets
            .iter()
            .find(|(_, known)| known.value == socket.value)
        {
            let problem = format!("is also the socket of the {other}");
            section
                .faults()
                .error(&socket.at, problem, "give each role a socket of its own");
        }
        if let Some(folder) = socket.value.parent() {
            files::must_be_private_folder(section.faults(), &socket.at, folder);
        }
        sockets.push((role, socket));
    }
    sockets
}

/// The table of identities; one that stands in two roles is a fault, for no one may approve what they did.
fn disjoint(
    section: &Section<'_, '_>,
    roles: [(Role, Vec<Located<SpiffeId>>); 3],
) -> Vec<(SpiffeId, Role)> {
    let mut table: BTreeMap<SpiffeId, Role> = BTreeMap::new();
    for (role, ids) in roles {
        for id in ids {
            if id.value.is_gateway() {
                let hint = "use the identity of a person's or office's certificate";
                section
                    .faults()
                    .error(&id.at, "is a gateway, which administers nothing", hint);
            }
            match table.get(&id.value) {
                Some(other) if *other == role => {
                    section
                        .faults()
                        .warning(&id.at, "stands twice in this role", "remove one");
                }
                Some(other) => {
                    let problem = format!("{} is already {other}", id.value);
                    let hint = "give each identity one role: administrators, operators and auditors are different people";
                    section.faults().error(&id.at, problem, hint);
                }
                None => {
                    table.insert(id.value, role);
                }
            }
        }
    }
    table.into_iter().collect()
}
