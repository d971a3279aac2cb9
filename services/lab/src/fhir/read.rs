//! A FHIR R4 bundle, read element by element. Reading takes elements away; what is left at the end is what the service does not hold.

use std::collections::HashSet;

use banqiao_proto::lab::v1::{
    Actor, Coding, Comparator, Concept, Identifier, Patient, Quantity, ReferenceInterval, Report,
    ReportStatus, Result as LabResult, Sex, result::Value,
};
use jiff::Timestamp;

use super::{
    CITIZEN_SYSTEM, COMPARATORS, CREDIT_SYSTEM, NORMALISED_EXTENSION, REPORT_NUMBER_SYSTEM, SEXES,
    STATUSES, UCUM_SYSTEM,
    json::{Json, NotJson},
    value_of,
};

/// Most resources of a bundle.
const MAX_RESOURCES: usize = 5_000;

/// Why a resource cannot be read at all. Faults of what it says are found when the report is judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FhirError {
    /// The text is no JSON.
    #[error("the resource is not JSON in UTF-8 (byte {0})")]
    NotJson(usize),
    /// It is another resource.
    #[error("the resource must be a Bundle with a DiagnosticReport, or a DiagnosticReport")]
    NoReport,
    /// More than the service takes at once.
    #[error("a bundle has at most {MAX_RESOURCES} resources")]
    TooManyResources,
}

/// The reports of a bundle.
#[derive(Clone, Debug, Default)]
pub struct FhirReports {
    /// One for each `DiagnosticReport`, in order.
    pub reports: Vec<Report>,
    /// Paths of elements that the service does not hold, in order.
    pub unheld: Vec<String>,
}

/// Reads a `Bundle`, or one `DiagnosticReport` with what it contains.
///
/// # Errors
/// See [`FhirError`].
pub fn read(resource: &[u8]) -> Result<FhirReports, FhirError> {
    let text = std::str::from_utf8(resource);
    let text = text.map_err(|error| FhirError::NotJson(error.valid_up_to()))?;
    let json = Json::parse(text).map_err(|NotJson(at)| FhirError::NotJson(at))?;
    let mut reader = Reader::default();
    reader.collect(json)?;
    let places: Vec<_> = (0..reader.resources.len())
        .filter(|place| {
            reader
                .resources
                .get(*place)
                .is_some_and(|one| one.kind == "DiagnosticReport")
        })
        .collect();
    if places.is_empty() {
        return Err(FhirError::NoReport);
    }
    reader.shares = places.len() > 1;
    let reports = places
        .into_iter()
        .map(|place| reader.report(place))
        .collect();
    for resource in std::mem::take(&mut reader.resources) {
        if !resource.read {
            reader.left(resource.element);
        }
    }
    // What is read for several reports or results is listed once.
    let mut listed = HashSet::new();
    let mut unheld = reader.unheld;
    unheld.retain(|path| listed.insert(path.clone()));
    Ok(FhirReports { reports, unheld })
}

/// An object that is being read.
#[derive(Clone, Default)]
struct Element {
    path: String,
    members: Vec<(String, Json)>,
}

impl Element {
    fn take(&mut self, name: &str) -> Option<Json> {
        let place = self.members.iter().position(|(known, _)| known == name)?;
        Some(self.members.remove(place).1)
    }

    /// Takes text; what is there and no text stays.
    fn text(&mut self, name: &str) -> String {
        match self.take(name) {
            Some(Json::Text(text)) => text,
            Some(other) => {
                self.members.push((name.to_owned(), other));
                String::new()
            }
            None => String::new(),
        }
    }

    /// Takes text if `keep` knows what to do with it.
    fn parsed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(name);
        let value = parse(&text);
        if value.is_none() && !text.is_empty() {
            self.members.push((name.to_owned(), Json::Text(text)));
        }
        value
    }

    fn child(&mut self, name: &str) -> Option<Self> {
        match self.take(name)? {
            Json::Members(members) => Some(Self {
                path: format!("{}.{name}", self.path),
                members,
            }),
            other => {
                self.members.push((name.to_owned(), other));
                None
            }
        }
    }

    fn children(&mut self, name: &str) -> Vec<Self> {
        let values = match self.take(name) {
            Some(Json::List(values)) => values,
            Some(other) => {
                self.members.push((name.to_owned(), other));
                return Vec::new();
            }
            None => return Vec::new(),
        };
        let mut children = Vec::new();
        for (place, value) in values.into_iter().enumerate() {
            let path = format!("{}.{name}[{place}]", self.path);
            match value {
                Json::Members(members) => children.push(Self { path, members }),
                other => self.members.push((format!("{name}[{place}]"), other)),
            }
        }
        children
    }
}

/// A resource of the bundle.
struct Resource {
    kind: String,
    /// By which references name it.
    names: Vec<String>,
    /// Nothing any more once it was taken.
    element: Element,
    /// A report or a result was made of it.
    read: bool,
}

#[derive(Default)]
struct Reader {
    resources: Vec<Resource>,
    /// Several reports may be about one patient, and of one result.
    shares: bool,
    unheld: Vec<String>,
}

impl Reader {
    fn collect(&mut self, json: Json) -> Result<(), FhirError> {
        let Json::Members(members) = json else {
            return Err(FhirError::NoReport);
        };
        let mut top = Element {
            path: String::new(),
            members,
        };
        match top.text("resourceType").as_str() {
            "Bundle" => {}
            "DiagnosticReport" => {
                top.path = "DiagnosticReport".to_owned();
                self.resource("DiagnosticReport", Vec::new(), top);
                return self.bounded();
            }
            _ => return Err(FhirError::NoReport),
        }
        top.path = "Bundle".to_owned();
        for mut entry in top.children("entry") {
            let url = entry.text("fullUrl");
            if let Some(mut element) = entry.child("resource") {
                let kind = element.text("resourceType");
                self.resource(&kind, vec![url], element);
            }
            self.left(entry);
        }
        // They say how the bundle came, not what the report says.
        for name in ["type", "id"] {
            top.text(name);
        }
        self.left(top);
        self.bounded()
    }

    fn bounded(&self) -> Result<(), FhirError> {
        if self.resources.len() > MAX_RESOURCES {
            return Err(FhirError::TooManyResources);
        }
        Ok(())
    }

    fn resource(&mut self, kind: &str, mut names: Vec<String>, mut element: Element) {
        let id = element.text("id");
        names.extend([format!("{kind}/{id}"), format!("#{id}")]);
        for mut contained in element.children("contained") {
            let kind = contained.text("resourceType");
            self.resource(&kind, Vec::new(), contained);
        }
        self.resources.push(Resource {
            kind: kind.to_owned(),
            names,
            element,
            read: false,
        });
    }

    /// A resource of a kind that a reference names: its own copy where others may name it too, as results do their specimen; none where
    /// another reference took it.
    fn resolve(&mut self, kind: &str, reference: &str) -> Option<Element> {
        let named = |one: &&mut Resource| {
            one.kind == kind
                && one
                    .names
                    .iter()
                    .any(|name| !name.is_empty() && name == reference)
        };
        let found = self.resources.iter_mut().find(named)?;
        let again = std::mem::replace(&mut found.read, true);
        if self.shares || kind == "Specimen" {
            Some(found.element.clone())
        } else {
            (!again).then(|| std::mem::take(&mut found.element))
        }
    }

    /// Writes down what is left of an element.
    fn left(&mut self, element: Element) {
        for (name, _) in element.members {
            self.unheld.push(format!("{}.{name}", element.path));
        }
    }

    fn report(&mut self, place: usize) -> Report {
        let Some(resource) = self.resources.get_mut(place) else {
            return Report::default();
        };
        resource.read = true;
        let mut element = std::mem::take(&mut resource.element);
        let mut report = Report {
            status: status(&mut element),
            categories: self.concepts(&mut element, "category"),
            code: self.concept(&mut element, "code"),
            collected_at: effective(&mut element),
            issued_at: element.parsed("issued", instant),
            conclusion: element.text("conclusion"),
            ..Report::default()
        };
        self.identifiers(&mut element, &mut report);
        self.performer(&mut element, &mut report);
        let mut reviewers = element.children("resultsInterpreter").into_iter();
        report.reviewer = reviewers.next().map(|reviewer| self.actor(reviewer));
        reviewers.for_each(|reviewer| self.whole(&reviewer));
        let subject = element
            .child("subject")
            .map(|subject| self.subject(subject, &mut report));
        let mut specimens = element.children("specimen").into_iter();
        report.specimen = specimens
            .next()
            .and_then(|specimen| self.specimen(specimen));
        specimens.for_each(|specimen| self.whole(&specimen));
        for mut result in element.children("result") {
            match self.resolve("Observation", &result.text("reference")) {
                Some(observation) => {
                    let result = self.observation(observation, &report, subject.as_deref());
                    report.results.push(result);
                }
                None => self.unheld.push(format!("{}.reference", result.path)),
            }
            self.left(result);
        }
        self.left(element);
        report
    }

    fn whole(&mut self, element: &Element) {
        self.unheld.push(element.path.clone());
    }

    fn identifiers(&mut self, element: &mut Element, report: &mut Report) {
        for mut identifier in element.children("identifier") {
            let (system, value) = (identifier.text("system"), identifier.text("value"));
            if system == REPORT_NUMBER_SYSTEM && report.report_number.is_empty() {
                report.report_number = value;
            } else {
                report.identifiers.push(Identifier { system, value });
            }
            self.left(identifier);
        }
        // A laboratory that knows nothing of this network numbers its reports all the same.
        if let (true, Some(first)) = (report.report_number.is_empty(), report.identifiers.first()) {
            report.report_number.clone_from(&first.value);
        }
    }

    fn performer(&mut self, element: &mut Element, report: &mut Report) {
        let mut performers = element.children("performer").into_iter();
        if let Some(mut performer) = performers.next() {
            if let Some(mut identifier) = performer.child("identifier") {
                if identifier.text("system") == CREDIT_SYSTEM {
                    report.institution = identifier.text("value");
                    self.left(identifier);
                } else {
                    self.whole(&identifier);
                }
            }
            let actor = self.actor(performer);
            report.performer = (actor != Actor::default()).then_some(actor);
        }
        performers.for_each(|performer| self.whole(&performer));
    }

    /// Reads the patient, and gives the reference by which results name it.
    fn subject(&mut self, mut subject: Element, report: &mut Report) -> String {
        let reference = subject.text("reference");
        let mut patient = Patient {
            name: subject.text("display"),
            ..Patient::default()
        };
        match self.resolve("Patient", &reference) {
            Some(resource) => self.patient(resource, &mut patient),
            None => patient.reference.clone_from(&reference),
        }
        self.left(subject);
        report.patient = Some(patient);
        reference
    }

    fn patient(&mut self, mut resource: Element, patient: &mut Patient) {
        for mut identifier in resource.children("identifier") {
            if patient.citizen_id.is_empty() && identifier.text("system") == CITIZEN_SYSTEM {
                patient.citizen_id = identifier.text("value");
                self.left(identifier);
            } else {
                self.whole(&identifier);
            }
        }
        let mut names = resource.children("name").into_iter();
        if let Some(mut name) = names.next() {
            let text = name.text("text");
            if !text.is_empty() {
                patient.name = text;
            }
            self.left(name);
        }
        names.for_each(|name| self.whole(&name));
        let sex = resource.parsed("gender", |code| value_of(&SEXES, code));
        patient.sex = sex.unwrap_or(Sex::Unspecified).into();
        patient.birth_date = resource.text("birthDate");
        for mut link in resource.children("link") {
            if let (true, Some(mut other)) = (patient.reference.is_empty(), link.child("other")) {
                patient.reference = other.text("reference");
                self.left(other);
                link.parsed("type", |kind| (kind == "seealso").then_some(()));
            }
            self.left(link);
        }
        self.left(resource);
    }

    fn specimen(&mut self, mut reference: Element) -> Option<Concept> {
        let name = reference.text("reference");
        let concept = match self.resolve("Specimen", &name) {
            Some(mut specimen) => {
                let concept = self.concept(&mut specimen, "type");
                self.left(specimen);
                concept
            }
            None => {
                if !name.is_empty() {
                    self.unheld.push(format!("{}.reference", reference.path));
                }
                let text = reference.text("display");
                (!text.is_empty()).then_some(Concept {
                    codings: Vec::new(),
                    text,
                })
            }
        };
        self.left(reference);
        concept
    }

    fn observation(
        &mut self,
        mut element: Element,
        report: &Report,
        subject: Option<&str>,
    ) -> LabResult {
        let shown = status(&mut element);
        let mut result = LabResult {
            status: if shown == report.status { 0 } else { shown },
            code: self.concept(&mut element, "code"),
            interpretations: self.concepts(&mut element, "interpretation"),
            method: self.concept(&mut element, "method"),
            ..LabResult::default()
        };
        result.value = self.value(&mut element);
        // What this service itself added when it wrote the report.
        for extension in element.children("extension") {
            let own = |(name, value): &(String, Json)| {
                name == "url" && *value == Json::text(NORMALISED_EXTENSION)
            };
            if !extension.members.iter().any(own) {
                self.whole(&extension);
            }
        }
        if let Some(mut named) = element.child("subject") {
            named.parsed("reference", |reference| {
                (Some(reference) == subject).then_some(())
            });
            let name = report.patient.as_ref().map(|patient| patient.name.as_str());
            named.parsed("display", |display| (Some(display) == name).then_some(()));
            self.left(named);
        }
        let mut performers = element.children("performer").into_iter();
        result.performer = performers.next().map(|performer| self.actor(performer));
        performers.for_each(|performer| self.whole(&performer));
        result.device = element.child("device").map(|device| self.actor(device));
        result.specimen = element
            .child("specimen")
            .and_then(|specimen| self.specimen(specimen));
        for mut note in element.children("note") {
            result.comments.push(note.text("text"));
            self.left(note);
        }
        for range in element.children("referenceRange") {
            let interval = self.interval(range);
            result.intervals.push(interval);
        }
        let same = |text: &str| {
            (instant(text).is_some() && instant(text) == report.collected_at).then_some(())
        };
        element.parsed("effectiveDateTime", same);
        self.left(element);
        result
    }

    fn value(&mut self, element: &mut Element) -> Option<Value> {
        if let Some(quantity) = element.child("valueQuantity") {
            return Some(Value::Quantity(self.quantity(quantity)));
        }
        if let Some(concept) = self.concept(element, "valueCodeableConcept") {
            return Some(Value::Concept(concept));
        }
        let text = element.text("valueString");
        (!text.is_empty()).then_some(Value::Text(text))
    }

    fn interval(&mut self, mut range: Element) -> ReferenceInterval {
        let low = range.child("low").map(|low| self.quantity(low));
        let high = range.child("high").map(|high| self.quantity(high));
        let interval = ReferenceInterval {
            low,
            high,
            text: range.text("text"),
            kind: self.concept(&mut range, "type"),
            applies_to: self.concepts(&mut range, "appliesTo"),
        };
        self.left(range);
        interval
    }

    fn quantity(&mut self, mut element: Element) -> Quantity {
        let value = match element.take("value") {
            Some(Json::Number(number)) => number,
            Some(other) => {
                element.members.push(("value".to_owned(), other));
                String::new()
            }
            None => String::new(),
        };
        let comparator = element.parsed("comparator", |code| value_of(&COMPARATORS, code));
        let ucum = element.parsed("system", |system| (system == UCUM_SYSTEM).then_some(()));
        let quantity = Quantity {
            value,
            comparator: comparator.unwrap_or(Comparator::Unspecified).into(),
            unit: element.text("unit"),
            ucum: ucum.map_or_else(String::new, |()| element.text("code")),
        };
        self.left(element);
        quantity
    }

    fn concepts(&mut self, element: &mut Element, name: &str) -> Vec<Concept> {
        let children = element.children(name);
        children
            .into_iter()
            .map(|child| self.concept_of(child))
            .collect()
    }

    fn concept(&mut self, element: &mut Element, name: &str) -> Option<Concept> {
        element.child(name).map(|child| self.concept_of(child))
    }

    fn concept_of(&mut self, mut element: Element) -> Concept {
        let mut concept = Concept {
            codings: Vec::new(),
            text: element.text("text"),
        };
        for mut coding in element.children("coding") {
            concept.codings.push(Coding {
                system: coding.text("system"),
                code: coding.text("code"),
                display: coding.text("display"),
            });
            self.left(coding);
        }
        self.left(element);
        concept
    }

    fn actor(&mut self, mut element: Element) -> Actor {
        let actor = Actor {
            reference: element.text("reference"),
            name: element.text("display"),
        };
        self.left(element);
        actor
    }
}

fn status(element: &mut Element) -> i32 {
    let status = element.parsed("status", |code| value_of(&STATUSES, code));
    status.unwrap_or(ReportStatus::Unspecified).into()
}

/// The time of collection. A period is not held: which of its moments counts is not said.
fn effective(element: &mut Element) -> Option<prost_types::Timestamp> {
    element.parsed("effectiveDateTime", instant)
}

fn instant(text: &str) -> Option<prost_types::Timestamp> {
    let at: Timestamp = text.parse().ok()?;
    Some(prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    })
}
