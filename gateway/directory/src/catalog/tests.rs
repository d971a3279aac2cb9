use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use banqiao_proto::exchange::v1::{SharingAttribute, SubjectKind};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use protox::{
    Compiler,
    file::{ChainFileResolver, DescriptorSetFileResolver, File, FileResolver, GoogleFileResolver},
};

use super::*;

struct Sources(Vec<(&'static str, &'static str)>);

impl FileResolver for Sources {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let source = self.0.iter().find(|(known, _)| *known == name);
        let (_, text) = source.ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, text)
    }
}

/// The encoded set of `sources`, compiled with every import, ours among them.
fn compile(sources: &[(&'static str, &'static str)]) -> Vec<u8> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Sources(sources.to_vec()));
    resolver.add(GoogleFileResolver::new());
    resolver.add(DescriptorSetFileResolver::decode(banqiao_proto::FILE_DESCRIPTOR_SET).unwrap());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    compiler
        .open_files(sources.iter().map(|(name, _)| *name))
        .unwrap();
    compiler.encode_file_descriptor_set()
}

const ECHO: &str = r#"
syntax = "proto3";
package foreign.v1;
message Ping { string text = 1; }
service Echo {
  rpc Unary(Ping) returns (Ping);
  rpc Up(stream Ping) returns (Ping) { option idempotency_level = IDEMPOTENT; }
  rpc Down(Ping) returns (stream Ping) { option idempotency_level = NO_SIDE_EFFECTS; }
  rpc Both(stream Ping) returns (stream Ping);
}
"#;

const MARKED: &str = r#"
syntax = "proto3";
package foreign.v1;
import "banqiao/exchange/v1/options.proto";
message Ask {
  string id = 1 [(banqiao.exchange.v1.field) = {subject: SUBJECT_KIND_CITIZEN}];
}
message Tree {
  string leaf = 1 [(banqiao.exchange.v1.field) = {disclosure_group: "leaf"}];
  repeated Tree branches = 2;
  map<string, Tree> named = 3 [(banqiao.exchange.v1.field) = {disclosure_group: "names"}];
}
service Registry {
  rpc Find(Ask) returns (Tree) {
    option (banqiao.exchange.v1.method) = {
      title: "查询"
      sharing: SHARING_ATTRIBUTE_NOT_SHARED
      max_deadline: {seconds: 3}
      max_request_bytes: 1024
      max_response_bytes: 4294967295
      purposes: "statistics"
    };
  }
}
"#;

fn marked() -> Vec<u8> {
    compile(&[("marked.proto", MARKED)])
}

#[test]
fn services_of_cities_are_read_with_their_rules_and_nothing_to_correct() {
    let set = ServiceSet::decode(banqiao_proto::FILE_DESCRIPTOR_SET).unwrap();
    let names: Vec<_> = set
        .services()
        .iter()
        .map(|service| &*service.name)
        .collect();
    let of_cities = ["banqiao.card.", "banqiao.item.", "banqiao.lab."];
    for package in of_cities {
        assert!(
            names.iter().any(|name| name.starts_with(package)),
            "{names:?}"
        );
    }
    let foreign = names
        .iter()
        .find(|name| !of_cities.iter().any(|of| name.starts_with(of)));
    assert_eq!(foreign, None, "gateways' own services are left out");
    assert_eq!(set.findings(), []);
    let catalog = Catalog::new([set.clone()]).unwrap();
    let verify = catalog
        .method("/banqiao.card.v1.CardService/VerifyCard")
        .unwrap();
    assert_eq!(verify.max_deadline, Some(Duration::from_secs(10)));
    assert_eq!(verify.max_request_bytes, 65_536);
    assert_eq!(verify.idempotency, Idempotency::NoSideEffects);
    assert_eq!(verify.sharing(), SharingAttribute::Conditional);
    assert!(verify.is_unary() && verify.may_retry());
    assert!(verify.allows_purpose("card-service") && !verify.allows_purpose("statistics"));
    assert_eq!(verify.descriptor_digest, set.digest());
    let watch = catalog
        .method("/banqiao.card.v1.CardService/WatchCardStates")
        .unwrap();
    assert!(watch.long_lived && watch.server_streaming && !watch.client_streaming);
    assert_eq!(watch.max_deadline, None);
    assert_eq!(watch.max_response_bytes, DEFAULT_MESSAGE_BYTES);
    let import = catalog
        .method("/banqiao.card.v1.CardService/ImportCards")
        .unwrap();
    assert_eq!(import.max_response_bytes, MAX_MESSAGE_BYTES);
    assert_eq!(
        disclosure_groups(&verify.response)
            .into_iter()
            .collect::<Vec<_>>(),
        ["basic", "electronic", "evidence", "financial", "validity"]
    );
    let subject = field_at(&verify.request, "key.social_security_number").unwrap();
    assert_eq!(
        field_rule(&subject).unwrap().subject(),
        SubjectKind::Citizen
    );
    assert_eq!(
        catalog.pool_for("banqiao.card.v1.CardService"),
        Some(set.bytes())
    );
    assert!(catalog.set_by_digest(&set.digest()).is_some());
    assert!(
        catalog
            .method("/banqiao.card.v1.CardService/verifycard")
            .is_none()
    );
}

#[test]
fn a_foreign_service_is_carried_with_the_defaults() {
    let set = ServiceSet::decode(&compile(&[("echo.proto", ECHO)])).unwrap();
    let service = &set.services()[0];
    let kinds: Vec<_> = service
        .methods
        .iter()
        .map(|m| {
            (
                &*m.path,
                m.client_streaming,
                m.server_streaming,
                m.idempotency,
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("/foreign.v1.Echo/Unary", false, false, Idempotency::Unknown),
            ("/foreign.v1.Echo/Up", true, false, Idempotency::Idempotent),
            (
                "/foreign.v1.Echo/Down",
                false,
                true,
                Idempotency::NoSideEffects
            ),
            ("/foreign.v1.Echo/Both", true, true, Idempotency::Unknown),
        ]
    );
    let unary = service.method("Unary").unwrap();
    assert_eq!(unary.max_deadline, Some(DEFAULT_UNARY_DEADLINE));
    assert_eq!(service.method("Both").unwrap().max_deadline, None);
    assert_eq!(unary.max_request_bytes, DEFAULT_MESSAGE_BYTES);
    assert_eq!(unary.sharing(), SharingAttribute::Conditional);
    assert!(unary.allows_purpose("audit") && !unary.may_retry());
    assert_eq!(field_rule(&field_at(&unary.request, "text").unwrap()), None);
    // One for the service, and one for each method.
    assert_eq!(set.findings().len(), 5);
}

#[test]
fn a_foreign_service_with_our_options_is_read_by_them() {
    let set = ServiceSet::decode(&marked()).unwrap();
    let find = set.services()[0].method("Find").unwrap();
    assert_eq!(find.sharing(), SharingAttribute::NotShared);
    assert_eq!(find.max_deadline, Some(Duration::from_secs(3)));
    assert_eq!(find.max_request_bytes, 1_024);
    assert_eq!(
        find.max_response_bytes, MAX_MESSAGE_BYTES,
        "a stated limit is cut to 64 MiB"
    );
    let found: Vec<_> = set.findings().iter().map(ToString::to_string).collect();
    assert!(
        found
            .iter()
            .any(|finding| finding.contains("without a citation")
                && finding.contains("foreign.v1.Registry/Find")
                && finding.contains("art. 15")),
        "{found:#?}"
    );
    assert_eq!(
        disclosure_groups(&find.response)
            .into_iter()
            .collect::<Vec<_>>(),
        ["leaf", "names"]
    );
    for (path, there) in [
        ("leaf", true),
        ("branches", true),
        ("branches.branches.leaf", true),
        ("named", true),
        ("named.value.leaf", false),
        ("leaf.more", false),
        ("other", false),
        ("", false),
        (".leaf", false),
        ("branches.", false),
    ] {
        assert_eq!(field_at(&find.response, path).is_some(), there, "{path}");
    }
}

/// A service with one method that states `ask_all`.
fn asked_of_all(
    method: &'static str,
    response: &'static str,
    option: &str,
) -> Result<ServiceSet, CatalogError> {
    let source = format!(
        r#"
syntax = "proto3";
package foreign.v1;
import "banqiao/exchange/v1/options.proto";
message Ask {{}}
message Found {{ {response} }}
service Registry {{
  {method} {{
    option idempotency_level = NO_SIDE_EFFECTS;
    option (banqiao.exchange.v1.method) = {{{option}}};
  }}
}}
"#
    );
    // The compiler's sources are of the whole test's life.
    let source: &'static str = Box::leak(source.into_boxed_str());
    ServiceSet::decode(&compile(&[("asked.proto", source)]))
}

#[test]
fn a_method_may_be_asked_of_all_cities_within_its_fences() {
    const FIND: &str = "rpc Find(Ask) returns (stream Found)";
    let read = |option| {
        let set = asked_of_all(FIND, "bytes rest = 1; string city = 7;", option).unwrap();
        let method = set.services()[0].method("Find").unwrap();
        method.ask_all.clone()
    };
    let (qingdao, yantai) = ("370200".parse().unwrap(), "370600".parse().unwrap());
    assert_eq!(read("title: \"查询\""), None, "what states nothing may not");
    let open = read("ask_all: {}").unwrap();
    assert!(open.allows_purpose("statistics") && open.names(qingdao) && open.names(yantai));
    assert_eq!(open.city_field(), 7);
    let fenced = read(
        r#"purposes: "audit" purposes: "statistics" ask_all: {purposes: "statistics" cities: "370600"}"#,
    )
    .unwrap();
    assert!(fenced.allows_purpose("statistics") && !fenced.allows_purpose("audit"));
    assert!(fenced.names(yantai) && !fenced.names(qingdao));
}

#[test]
fn an_option_that_does_not_fit_the_method_refuses_the_set_and_names_the_fault() {
    const CITY: &str = "string city = 1;";
    const FIND: &str = "rpc Find(Ask) returns (stream Found)";
    for (method, response, option, fault) in [
        (
            "rpc Find(Ask) returns (Found)",
            CITY,
            "ask_all: {}",
            "must stream its responses",
        ),
        (
            "rpc Find(stream Ask) returns (stream Found)",
            CITY,
            "ask_all: {}",
            "stream of requests",
        ),
        (
            FIND,
            "bytes rest = 1;",
            "ask_all: {}",
            "foreign.v1.Found needs a field `string city`",
        ),
        (
            FIND,
            "bytes city = 1;",
            "ask_all: {}",
            "needs a field `string city`",
        ),
        (
            FIND,
            "repeated string city = 1;",
            "ask_all: {}",
            "needs a field `string city`",
        ),
        (
            FIND,
            "oneof which { string city = 1; }",
            "ask_all: {}",
            "outside of any oneof",
        ),
        (FIND, CITY, "ask_all: {} long_lived: true", "come to an end"),
        (FIND, CITY, r#"ask_all: {cities: "3702"}"#, "six digits"),
        (
            FIND,
            CITY,
            r#"ask_all: {purposes: "Case Work"}"#,
            "a purpose code is of a-z",
        ),
        (
            FIND,
            CITY,
            r#"purposes: "audit" ask_all: {purposes: "statistics"}"#,
            "the method's own purposes leave out",
        ),
    ] {
        let error = asked_of_all(method, response, option).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, CatalogError::AskAll { .. })
                && text.contains("foreign.v1.Registry/Find")
                && text.contains(fault),
            "{text}"
        );
    }
    let idempotent = r#"
syntax = "proto3";
package foreign.v1;
import "banqiao/exchange/v1/options.proto";
message Found { string city = 1; }
service Registry {
  rpc Find(Found) returns (stream Found) {
    option idempotency_level = IDEMPOTENT;
    option (banqiao.exchange.v1.method) = {ask_all: {}};
  }
}
"#;
    let error = ServiceSet::decode(&compile(&[("asked.proto", idempotent)])).unwrap_err();
    assert!(error.to_string().contains("no side effects"), "{error}");
}

/// The set without the file that declares our options, but with their bytes still on the descriptors.
fn without_declarations(set: &[u8]) -> Vec<u8> {
    const OPTIONS: &str = "banqiao/exchange/v1/options.proto";
    let plain = DescriptorPool::global();
    let of_set = plain
        .get_message_by_name("google.protobuf.FileDescriptorSet")
        .unwrap();
    let mut message = DynamicMessage::decode(of_set, set).unwrap();
    let files = message
        .get_field_by_name_mut("file")
        .unwrap()
        .as_list_mut()
        .unwrap();
    files.retain(|file| {
        file.as_message()
            .unwrap()
            .get_field_by_name("name")
            .unwrap()
            .as_str()
            != Some(OPTIONS)
    });
    for file in files {
        let file = file.as_message_mut().unwrap();
        let imports = file
            .get_field_by_name_mut("dependency")
            .unwrap()
            .as_list_mut()
            .unwrap();
        imports.retain(|import| *import != Value::String(OPTIONS.to_owned()));
    }
    message.encode_to_vec()
}

#[test]
fn options_without_their_declaration_are_reported_and_the_defaults_hold() {
    let set = ServiceSet::decode(&without_declarations(&marked())).unwrap();
    let find = set.services()[0].method("Find").unwrap();
    assert_eq!(find.max_deadline, Some(DEFAULT_UNARY_DEADLINE));
    let found = set.findings();
    assert!(
        found
            .iter()
            .any(|finding| finding.text.contains("lacks the file")),
        "{found:#?}"
    );
}

#[test]
fn an_option_of_another_form_is_refused() {
    let declared = r#"
syntax = "proto3";
package banqiao.exchange.v1;
import "google/protobuf/descriptor.proto";
extend google.protobuf.MethodOptions { string method = 51701; }
message Ping {}
service Echo { rpc Unary(Ping) returns (Ping) { option (method) = "text"; } }
"#;
    let error = ServiceSet::decode(&compile(&[("other.proto", declared)])).unwrap_err();
    assert!(matches!(error, CatalogError::Option { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the banqiao option on banqiao.exchange.v1.Echo/Unary is malformed"
    );
}

#[test]
fn two_descriptions_of_a_service_conflict_until_one_replaces_the_other() {
    let first = ServiceSet::decode(&compile(&[("echo.proto", ECHO)])).unwrap();
    let changed: &'static str = ECHO.replace("rpc Both", "rpc Each").leak();
    let second = ServiceSet::decode(&compile(&[("echo.proto", changed)])).unwrap();
    let other = ServiceSet::decode(&marked()).unwrap();
    let error = Catalog::new([first.clone(), second.clone()]).unwrap_err();
    let CatalogError::Conflict {
        service,
        held,
        offered,
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(
        (&*service, held, offered),
        ("foreign.v1.Echo", first.digest(), second.digest())
    );
    assert!(Catalog::new([first.clone(), first.clone()]).is_ok());

    let catalog = Catalog::new([first, other])
        .unwrap()
        .replacing(second.clone());
    assert!(catalog.method("/foreign.v1.Echo/Both").is_none());
    assert!(catalog.method("/foreign.v1.Echo/Each").is_some());
    assert_eq!(
        catalog.set_for("foreign.v1.Echo").unwrap().digest(),
        second.digest()
    );
    let names: Vec<_> = catalog
        .services()
        .iter()
        .map(|service| &*service.name)
        .collect();
    assert_eq!(names, ["foreign.v1.Echo", "foreign.v1.Registry"]);
    let without = catalog.without("foreign.v1.Echo");
    assert!(without.method("/foreign.v1.Echo/Each").is_none());
    assert!(without.set_by_digest(&second.digest()).is_none());
    assert!(without.service("foreign.v1.Registry").is_some());
}

#[test]
fn only_services_that_a_set_describes_can_be_taken_from_it() {
    let set = ServiceSet::decode(banqiao_proto::FILE_DESCRIPTOR_SET).unwrap();
    let card = set.restrict(["banqiao.card.v1.CardService"]).unwrap();
    assert_eq!((card.services().len(), card.digest()), (1, set.digest()));
    assert_eq!(card.whole().services().len(), set.services().len());
    assert!(matches!(
        card.restrict([&*set.services()[1].name, &*set.services()[0].name]),
        Err(CatalogError::UnknownService(_))
    ));
    assert!(matches!(
        set.restrict(["banqiao.directory.v1.AdminService"]),
        Err(CatalogError::Reserved(_))
    ));
    assert!(matches!(
        set.restrict(["no.Such"]),
        Err(CatalogError::UnknownService(_))
    ));
    assert!(matches!(
        set.restrict::<&str>([]),
        Err(CatalogError::NoService)
    ));
    assert!(matches!(
        ServiceSet::decode(b""),
        Err(CatalogError::NoService)
    ));
    assert!(matches!(
        ServiceSet::decode(b"\xff\xff"),
        Err(CatalogError::Malformed)
    ));
    let large = vec![0; MAX_DESCRIPTOR_SET_BYTES + 1];
    assert!(matches!(
        ServiceSet::decode(&large),
        Err(CatalogError::TooLarge(_))
    ));
}

/// A set of files that have a name, a syntax, and an import each.
fn files(count: usize, syntax: &str) -> Vec<u8> {
    let file = |at: usize| prost_types::FileDescriptorProto {
        name: Some(format!("{at}.proto")),
        syntax: Some(syntax.to_owned()),
        dependency: at
            .checked_sub(1)
            .map(|before| format!("{before}.proto"))
            .into_iter()
            .collect(),
        ..Default::default()
    };
    prost_types::FileDescriptorSet {
        file: (0..count).map(file).collect(),
    }
    .encode_to_vec()
}

#[test]
fn sets_that_the_library_cannot_bear_are_refused_before_it_reads_them() {
    assert!(matches!(
        ServiceSet::decode(&files(1, "editions")),
        Err(CatalogError::Syntax(syntax)) if syntax == "editions"
    ));
    assert!(matches!(
        ServiceSet::decode(&files(2_001, "proto3")),
        Err(CatalogError::TooManyFiles(_))
    ));
    assert!(matches!(
        ServiceSet::decode(&files(2_000, "proto3")),
        Err(CatalogError::NoService)
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Administrators upload sets, and peers send them: whatever the bytes are, they are refused, not fatal.
    #[test]
    fn broken_sets_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(marked);
        let mut bytes = WHOLE.clone();
        // The foreign file stands last, behind Google's and ours.
        let own = bytes.len() - 700;
        for (at, byte) in changes {
            let at = own + at.index(bytes.len() - own);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(own + cut.index(bytes.len() - own));
        }
        if let Ok(set) = ServiceSet::decode(&bytes) {
            for method in set.services().iter().flat_map(|service| &service.methods) {
                let _ = disclosure_groups(&method.response);
                let _ = field_at(&method.response, "branches.branches.leaf");
            }
            let _ = Catalog::new([set]);
        }
    }
}

#[test]
fn messages_that_contain_themselves_can_be_shown() {
    let set = ServiceSet::decode(&marked()).unwrap();
    let shown = format!("{:?}", set.services());
    assert!(shown.contains("foreign.v1.Tree"), "{shown}");
    assert!(shown.len() < 10_000, "{}", shown.len());
}

#[test]
fn a_set_is_decoded_once_while_it_is_asked_for() {
    let mut sets = DecodedSets::default();
    let (marked, echo) = (marked(), compile(&[("echo.proto", ECHO)]));
    let first = sets.decode(&marked).unwrap();
    let same = |set: &ServiceSet| Arc::ptr_eq(&set.services()[0], &first.services()[0]);
    assert!(same(&sets.decode(&marked).unwrap()));
    assert!(!same(&sets.decode(&echo).unwrap()));
    sets.sweep();
    assert!(same(&sets.decode(&marked).unwrap()));
    sets.sweep();
    sets.sweep();
    let anew = sets.decode(&marked).unwrap();
    assert!(!same(&anew));
    assert_eq!(anew.digest(), first.digest());
    assert!(sets.decode(&marked[1..]).is_err());
}
