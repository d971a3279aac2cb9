//! `[[services]]`: what the gateway carries for its city.

use std::path::Path;

use banqiao_directory::{DecodedSets, MAX_DESCRIPTOR_SET_BYTES, SpiffeId, is_reserved_service};
use banqiao_telemetry::Chain;

use super::{
    Place, ServiceConfig,
    document::path_in,
    fault::Faults,
    files,
    raw::{Located, Section, parsed},
};

pub(super) fn read(sections: Vec<Section<'_, '_>>, base: &Path) -> Vec<Located<ServiceConfig>> {
    let mut services: Vec<Located<ServiceConfig>> = Vec::new();
    // Many services may stand in one set.
    let mut sets = DecodedSets::default();
    for mut section in sections {
        let faults = section.faults();
        let read = service(&mut section, base, &mut sets);
        section.finish();
        let Some(read) = read else { continue };
        if let Some(known) = services
            .iter()
            .find(|known| known.value.name == read.value.name)
        {
            let problem = format!("{} is already {}", read.value.name, known.at.key);
            faults.error(&read.at, problem, "write one table with all endpoints");
        }
        services.push(read);
    }
    services
}

fn service(
    section: &mut Section<'_, '_>,
    base: &Path,
    sets: &mut DecodedSets,
) -> Option<Located<ServiceConfig>> {
    let at = section.at().clone();
    let faults = section.faults();
    let name = section.required(
        "name",
        "write the service's full name, such as \"banqiao.card.v1.CardService\"",
        |text| Ok(text.to_owned()),
    );
    let descriptor_set = section.optional("descriptor_set", path_in(base));
    let endpoints = section.list("endpoints", endpoint);
    if endpoints.is_empty() {
        let hint = "write the addresses that serve it: endpoints = [\"127.0.0.1:9443\"]";
        faults.error(&section.place("endpoints"), "names no address", hint);
    }
    let identity = section.required(
        "identity",
        "write the SPIFFE ID of the service's certificate",
        parsed::<SpiffeId>("such as \"spiffe://qingdao.jiaodong/hrss/card\""),
    );
    if let Some(name) = &name {
        let set = descriptor_set
            .as_ref()
            .map(|it| (&it.at, it.value.as_path()));
        described(faults, name, set, sets);
    }
    let value = ServiceConfig {
        name: name?.value,
        descriptor_set: descriptor_set.map(|it| it.value),
        endpoints: endpoints.into_iter().map(|it| it.value).collect(),
        identity: identity?.value,
    };
    Some(Located { value, at })
}

/// Checks that a descriptor of the service can be found.
fn described(
    faults: &Faults<'_>,
    name: &Located<String>,
    set: Option<(&Place, &Path)>,
    sets: &mut DecodedSets,
) {
    let service = &name.value;
    if is_reserved_service(service) {
        let problem = format!("{service} is served by the gateway itself");
        faults.error(&name.at, problem, "remove it");
        return;
    }
    let Some((at, file)) = set else {
        if banqiao_proto::descriptors()
            .get_service_by_name(service)
            .is_none()
        {
            let problem = format!("{service} is not one of Banqiao's own services");
            let hint = "name its descriptor set: descriptor_set = \"service.binpb\" (buf build -o, or protoc --include_imports -o)";
            faults.error(&name.at, problem, hint);
        }
        return;
    };
    if !files::must_be_file(faults, at, file) {
        return;
    }
    let limit = u64::try_from(MAX_DESCRIPTOR_SET_BYTES).unwrap_or(u64::MAX);
    let bytes = match files::read_bounded(file, limit) {
        Ok(bytes) => bytes,
        Err(error) => {
            faults.error(
                at,
                format!("{} cannot be read: {error}", file.display()),
                "",
            );
            return;
        }
    };
    let hint = "build it with every import: buf build -o, or protoc --include_imports -o";
    match sets.decode(&bytes) {
        Err(error) => {
            let problem = format!("{} is refused: {}", file.display(), Chain(&error));
            faults.error(at, problem, hint);
        }
        Ok(set) if set.service(service).is_none() => {
            let known: Vec<_> = set.services().iter().map(|known| &*known.name).collect();
            let hint = format!("it describes {}", known.join(", "));
            faults.error(
                at,
                format!("{} does not describe {service}", file.display()),
                hint,
            );
        }
        Ok(_) => {}
    }
}

/// `host:port`, where the host is a name or an address.
fn endpoint(text: &str) -> Result<String, (String, String)> {
    let sound = text.rsplit_once(':').is_some_and(|(host, port)| {
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
        let host = bracketed || (!host.is_empty() && host.len() <= 253 && host.chars().all(named));
        host && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if sound {
        return Ok(text.to_owned());
    }
    let hint = "write host:port, such as \"10.0.0.5:9443\" or \"[::1]:9443\", without a scheme";
    Err((format!("{text:?} is not an address"), hint.to_owned()))
}
