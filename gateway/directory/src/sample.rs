//! Documents for tests: a network of so many cities, which tests change.

use std::fmt::Write;

use crate::{Directory, Envelope, SigningKey};

/// A document that can be changed and written.
#[derive(Clone)]
pub(crate) struct Document {
    pub(crate) version: u64,
    pub(crate) issued: String,
    pub(crate) expires: String,
    pub(crate) emergency: Option<String>,
    pub(crate) threshold: usize,
    pub(crate) signers: Vec<(String, String)>,
    pub(crate) cities: Vec<City>,
    pub(crate) purposes: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct City {
    pub(crate) code: String,
    pub(crate) name: String,
    pub(crate) domain: String,
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) gateways: Vec<String>,
    pub(crate) guest: bool,
    pub(crate) systems: Vec<String>,
    /// Further keys of the section, as TOML.
    pub(crate) more: String,
}

impl City {
    pub(crate) fn new(at: u8) -> Self {
        Self {
            code: format!("37{at:02}00"),
            name: format!("City {at}"),
            domain: format!("city{at}.jiaodong"),
            certificates: vec![vec![0x30, 1, at]],
            gateways: vec![format!("gateway{at}.example:7443")],
            guest: false,
            systems: vec![format!("spiffe://city{at}.jiaodong/hrss/card")],
            more: String::new(),
        }
    }
}

/// Keys of the cities 1, 2, 3….
pub(crate) fn keys(count: u8) -> Vec<SigningKey> {
    (0..count)
        .map(|_| SigningKey::generate().unwrap())
        .collect()
}

impl Document {
    /// A network of cities that hold `keys`, of which `threshold` sign.
    pub(crate) fn new(keys: &[SigningKey], threshold: usize) -> Self {
        let cities: Vec<_> = (1..=u8::try_from(keys.len()).unwrap())
            .map(City::new)
            .collect();
        Self {
            version: 1,
            issued: "2026-01-01T00:00:00Z".to_owned(),
            expires: "2026-03-02T00:00:00+08:00".to_owned(),
            emergency: None,
            threshold,
            signers: cities
                .iter()
                .zip(keys)
                .map(|(city, key)| (city.code.clone(), key.public().to_string()))
                .collect(),
            cities,
            purposes: vec!["card-service".to_owned(), "statistics".to_owned()],
        }
    }

    pub(crate) fn next(&self) -> Self {
        Self {
            version: self.version + 1,
            ..self.clone()
        }
    }

    pub(crate) fn toml(&self) -> String {
        let mut out = format!(
            "version = {}\nissued = {}\nexpires = {}\n",
            self.version, self.issued, self.expires
        );
        if let Some(reason) = &self.emergency {
            writeln!(out, "emergency = {reason:?}").unwrap();
        }
        writeln!(out, "[signers]\nthreshold = {}", self.threshold).unwrap();
        for (city, key) in &self.signers {
            writeln!(
                out,
                "[[signers.keys]]\ncity = {city:?}\npublic_key = {key:?}"
            )
            .unwrap();
        }
        for city in &self.cities {
            write_city(city, &mut out);
        }
        for purpose in &self.purposes {
            writeln!(
                out,
                "[[purposes]]\ncode = {purpose:?}\ntitle = {{ zh = \"目的\", en = \"Purpose\" }}\n\
                 description = \"A purpose.\""
            )
            .unwrap();
        }
        out
    }

    pub(crate) fn parse(&self) -> Directory {
        Directory::parse(self.toml().as_bytes()).unwrap()
    }

    pub(crate) fn signed<'a>(&self, by: impl IntoIterator<Item = &'a SigningKey>) -> Envelope {
        let mut envelope = Envelope::new(self.toml().into_bytes());
        for key in by {
            envelope.sign(key);
        }
        envelope
    }
}

fn write_city(city: &City, out: &mut String) {
    let pem: String = city
        .certificates
        .iter()
        .map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.clone())).replace('\r', ""))
        .collect();
    writeln!(
        out,
        "[[cities]]\ncode = {:?}\nname = {{ zh = \"市\", en = {:?} }}\ntrust_domain = {:?}\n\
         ca_bundle = '''\n{pem}'''\ngateways = {:?}\nguest = {}\n{}",
        city.code, city.name, city.domain, city.gateways, city.guest, city.more
    )
    .unwrap();
    writeln!(out, "[[cities.agencies]]\ncode = \"hrss\"").unwrap();
    writeln!(
        out,
        "name = {{ zh = \"人社局\", en = \"Social Security\" }}"
    )
    .unwrap();
    for system in &city.systems {
        writeln!(
            out,
            "[[cities.systems]]\nid = {system:?}\ntitle = \"社保卡\"\nagency = \"hrss\""
        )
        .unwrap();
    }
}
