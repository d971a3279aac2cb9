//! 社会保险经办条例 art. 26: payments stop only after 调查核实, by a decision of the bureau. Here the descriptors prove that no method of
//! the eligibility service could stop one, and that no answer to another city could carry the trace of a check.

use std::collections::BTreeSet;

use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto};
use tonic::codegen::Bytes;

const PACKAGE: &str = ".banqiao.card.v1.";

fn files() -> Vec<FileDescriptorProto> {
    let bytes = Bytes::from_static(banqiao_proto::FILE_DESCRIPTOR_SET);
    let set: FileDescriptorSet = prost::Message::decode(bytes).unwrap();
    set.file
}

fn methods() -> Vec<MethodDescriptorProto> {
    let services = files().into_iter().flat_map(|file| file.service);
    let mut services = services.filter(|service| service.name() == "EligibilityService");
    services.next().unwrap().method
}

fn message(name: &str) -> DescriptorProto {
    let own = name.strip_prefix(PACKAGE).unwrap_or_default();
    let messages = files().into_iter().flat_map(|file| file.message_type);
    let mut messages = messages.filter(|message| message.name() == own);
    messages.next().unwrap_or_default()
}

/// Every field of a message, at any depth: `path` and the name of its type.
fn fields(name: &str, path: &str, found: &mut BTreeSet<(String, String)>) {
    for field in message(name).field {
        let path = format!("{path}.{}", field.name());
        if found.insert((path.clone(), field.type_name().to_owned())) {
            fields(field.type_name(), &path, found);
        }
    }
}

fn all_fields(name: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    fields(name, "", &mut found);
    found
}

#[test]
fn the_state_of_a_payment_comes_in_by_the_bureaus_import_alone() {
    let takes_it: Vec<_> = methods()
        .iter()
        .filter(|method| {
            let fields = all_fields(method.input_type());
            fields
                .iter()
                .any(|(_, name)| name == ".banqiao.card.v1.PaymentState")
        })
        .map(|method| method.name().to_owned())
        .collect();
    assert_eq!(takes_it, ["ImportBeneficiaries"]);
    // And nothing tells a bureau to change it, other than to resume.
    let told: Vec<_> = methods()
        .iter()
        .filter(|method| {
            let fields = all_fields(method.output_type());
            fields
                .iter()
                .any(|(_, name)| name == ".banqiao.card.v1.PaymentState")
        })
        .map(|method| method.name().to_owned())
        .collect();
    assert_eq!(told, [""; 0]);
}

#[test]
fn no_method_and_no_value_that_it_takes_or_gives_is_a_stop() {
    let stops = |name: &str| {
        let name = name.to_ascii_uppercase();
        [
            "STOP", "PAUSE", "SUSPEND_", "TERMINAT", "CANCEL", "HALT", "FREEZE", "WITHHOLD",
        ]
        .iter()
        .any(|word| name.contains(word))
    };
    let enums: Vec<_> = files()
        .into_iter()
        .flat_map(|file| file.enum_type)
        .collect();
    let mut looked_at = 0;
    for method in methods() {
        assert!(!stops(method.name()), "{}", method.name());
        for side in [method.input_type(), method.output_type()] {
            for (path, name) in all_fields(side) {
                assert!(!stops(&path), "{side}{path}");
                let own = name.strip_prefix(PACKAGE).unwrap_or_default();
                let of = enums.iter().find(|of| of.name() == own);
                for value in of.into_iter().flat_map(|of| &of.value) {
                    looked_at += 1;
                    // A household is struck off; a payment's own states are the bureau's record, as the test above has it.
                    let known = value.name() == "LOSS_EVIDENCE_TYPE_HOUSEHOLD_CANCELLED"
                        || value.name().starts_with("PAYMENT_STATE_");
                    assert!(known || !stops(value.name()), "{}", value.name());
                }
            }
        }
    }
    assert!(looked_at > 50, "{looked_at} values were looked at");
    assert!(stops("StopPayment") && stops("PAYMENT_STATE_PAUSED"));
}

#[test]
fn what_other_cities_get_is_verdict_and_date_and_never_the_trace() {
    let allowed = [
        "result",
        "verified_on",
        "valid_until",
        "verifying_city",
        "method",
        "checked_at",
        "source_city",
        "line",
        "field",
        "rule",
        "cursor",
        "repeated",
        "resumption_instructed",
        "investigation",
        "social_security_number",
        "scheme",
        "kind",
        "arrears_from",
        "recorded_at",
        "verdict",
        "change",
        "seconds",
        "nanos",
    ];
    for method in [
        "ReportLife",
        "ReportLossSign",
        "ReportUnreachable",
        "CheckEligibility",
        "MatchEligibility",
        "WatchEligibility",
    ] {
        let known = methods().into_iter().find(|known| known.name() == method);
        for (path, name) in all_fields(known.unwrap().output_type()) {
            let last = path.rsplit('.').next().unwrap();
            assert!(allowed.contains(&last), "{method}: {path}");
            assert!(!name.contains("Evidence"), "{method}: {path}");
        }
    }
    // The kind of evidence stays where it was found and where it is paid.
    let history = all_fields(".banqiao.card.v1.ListEligibilityHistoryResponse");
    assert!(
        history
            .iter()
            .any(|(_, name)| name.contains("LifeEvidenceType"))
    );
}

#[test]
fn evidence_of_life_and_evidence_of_loss_are_different_messages() {
    let of = |name: &str| all_fields(&format!("{PACKAGE}{name}"));
    let names = |name: &str, kind: &str| of(name).iter().any(|(_, of)| of.contains(kind));
    assert!(names("ReportLifeRequest", "LifeEvidenceType"));
    assert!(!names("ReportLifeRequest", "LossEvidenceType"));
    assert!(names("ReportLossSignRequest", "LossEvidenceType"));
    assert!(!names("ReportLossSignRequest", "LifeEvidenceType"));
    assert!(!names("ReportUnreachableRequest", "EvidenceType"));
}
