//! Rules of materials, with their sources.

use banqiao_kit::{Refusal, Rule, RuleTable, document::document_rules};

const SERVICE: &str = "item service";
const SHARED: &str = "国务院令第716号 art. 7";

pub(super) const MATERIAL: Rule = Rule::design(
    "MATERIAL",
    "a material is one of those that the catalogue names for the item of the case",
    SERVICE,
);
pub(super) const SIZE: Rule = Rule::design(
    "MATERIAL_SIZE",
    "a document has 1 byte to the size that the catalogue allows for the material, and 100 MiB at most",
    SERVICE,
);
pub(super) const TYPE: Rule = Rule::design(
    "MATERIAL_TYPE",
    "a document has one of the content types that the catalogue allows for the material",
    SERVICE,
);
pub(crate) const HEADER: Rule = Rule::design(
    "MATERIAL_HEADER",
    "an upload begins with its header, and only chunks follow",
    SERVICE,
);
pub(super) const FORMER_CITY: Rule = Rule::design(
    "FORMER_CITY",
    "the former city, and the city of a card, is empty or a city of the network, named by its code",
    "鲁政发〔2020〕2号",
);
pub(super) const ENGINE_ASKS: Rule = Rule::quoted(
    "MATERIAL_ENGINE_ASKS",
    "what a data call can verify is asked by the engine, and the exchange is recorded as proof; the applicant uploads it only when the call is not answered or does not confirm it, with the reason",
    SHARED,
);
pub(super) const NOT_TO_BE_ASKED: Refusal = Refusal::conflict(
    Rule::quoted(
        "MATERIAL_NOT_TO_BE_ASKED",
        "what a data call has verified is not asked of the applicant",
        SHARED,
    )
    .remedy("rest the decision on the exchange that the list of materials names"),
);
pub(super) const MISSING: Refusal = Refusal::conflict(
    // That a complete application is accepted is law; which materials are required, and that a data call stands for one, is ours.
    Rule::design(
        "MATERIALS_MISSING",
        "a case is accepted when every required material was uploaded, or a data call verified what it would prove",
        "行政许可法 art. 32",
    )
    .remedy("upload or verify what is missing, or tell the applicant in a correction notice"),
);
pub(super) const CLOSED: Refusal = Refusal::conflict(
    Rule::design(
        "MATERIALS_CLOSED",
        "materials come in before a case is decided",
        SERVICE,
    )
    .remedy("start a new case"),
);
pub(super) const UNKNOWN: Refusal = Refusal::not_found(
    Rule::design(
        "MATERIAL_UNKNOWN",
        "a document is given out when it was uploaded for the case that the request names",
        SERVICE,
    )
    .remedy("list the materials of the case"),
);

/// The rules of materials.
pub(crate) fn rules() -> [RuleTable; 2] {
    const UPLOAD: &[&str] = &["UploadMaterial"];
    const HEADERS: &[&str] = &["UploadMaterial", "FindMaterialUpload"];
    const DOWNLOAD: &[&str] = &["DownloadMaterial"];
    const NAMING: &[&str] = &["UploadMaterial", "FindMaterialUpload", "DownloadMaterial"];
    const ASKING: &[&str] = &["UploadMaterial", "VerifyMaterial"];
    let materials = RuleTable::new("Materials")
        .answer(
            &ENGINE_ASKS,
            &["UploadMaterial", "VerifyMaterial", "ActOnCase"],
        )
        .refusal(&NOT_TO_BE_ASKED, &["UploadMaterial", "ActOnCase"])
        .refusal(&MISSING, &["ActOnCase"])
        .refusal(&CLOSED, ASKING)
        .refusal(&UNKNOWN, DOWNLOAD)
        .fields([&SIZE, &TYPE, &HEADER], HEADERS)
        .field(
            &MATERIAL,
            &["UploadMaterial", "FindMaterialUpload", "VerifyMaterial"],
        )
        .field(&FORMER_CITY, &["VerifyMaterial"]);
    [materials, document_rules(UPLOAD, DOWNLOAD, NAMING)]
}
