//! Networks whose cities have a real laboratory service behind their gateways.

use anyhow::Result;
use banqiao_proto::directory::v1::Grant;

use super::{City, Network, Plan, carried, set};
use crate::{
    admin::grant,
    labs::{LAB_SYSTEM, Lab, ORGANISER},
};

/// The reports of the laboratory service.
pub const REPORTS: &str = "banqiao.lab.v1.ReportService";

/// Its quality rounds.
pub const QUALITY: &str = "banqiao.lab.v1.QualityService";

/// Its recognition.
pub const RECOGNITION: &str = "banqiao.lab.v1.RecognitionService";

/// Its referrals.
pub const REFERRAL: &str = "banqiao.lab.v1.ReferralService";

/// The laboratory system of a city's first hospital: it publishes.
pub const LIS: &str = "hospital-1/lis";

/// The doctors' system of a city's first hospital: it finds and decides.
pub const EMR: &str = "hospital-1/emr";

impl Network {
    /// Starts two cities, each with a real laboratory service. The systems of each first hospital may do everything at their own
    /// city's service, and [`ORGANISER`] everything about quality rounds and statistics; [`EMR`] may find reports in
    /// the other city and refer patients, and each service may deliver decisions, referrals and documents to the other one.
    ///
    /// # Errors
    ///
    /// Fails with the output of a process that does not become ready.
    pub async fn laboratories() -> Result<(Self, [Lab; 2])> {
        let mut network = Plan::cities(2).lay_out()?;
        let labs = [Lab::lay_out(&network, 0)?, Lab::lay_out(&network, 1)?];
        for (city, lab) in network.cities.iter_mut().zip(&labs) {
            let identity = city.id(LAB_SYSTEM);
            let carried = [REPORTS, QUALITY, RECOGNITION, REFERRAL]
                .map(|service| carried(service, lab.address, &identity));
            let gateway = city.gateway_mut();
            set(&mut gateway.config, "services", carried.to_vec());
            gateway.write_config()?;
        }
        network.run().await?;
        for (index, lab) in labs.iter().enumerate() {
            lab.listens().await?;
            let (city, other) = (&network.cities[index], &network.cities[1 - index]);
            for wanted in wanted(city, other) {
                city.grant(wanted).await?;
            }
        }
        Ok((network, labs))
    }
}

/// What a city grants.
fn wanted(city: &City, other: &City) -> Vec<Grant> {
    let granted = |client: String, service, purposes: &[&str]| Grant {
        purposes: purposes.iter().map(|&purpose| purpose.to_owned()).collect(),
        ..grant(&client, service)
    };
    let (treatment, quality) = (["medical-treatment"], ["quality-control"]);
    let mut wanted: Vec<_> = [LIS, EMR]
        .into_iter()
        .flat_map(|system| {
            [
                granted(city.id(system), REPORTS, &treatment),
                granted(city.id(system), RECOGNITION, &treatment),
                granted(city.id(system), QUALITY, &quality),
            ]
        })
        .collect();
    wanted.push(granted(city.id(ORGANISER), QUALITY, &quality));
    wanted.push(granted(
        city.id(ORGANISER),
        RECOGNITION,
        &["quality-control", "statistics"],
    ));
    wanted.push(granted(other.id(EMR), REPORTS, &treatment));
    wanted.push(Grant {
        methods: vec!["DeliverDecision".to_owned()],
        ..granted(other.id(LAB_SYSTEM), RECOGNITION, &treatment)
    });
    wanted.push(granted(city.id(EMR), REFERRAL, &treatment));
    wanted.push(Grant {
        methods: vec!["DeliverReferral".to_owned(), "DownloadDocument".to_owned()],
        ..granted(other.id(LAB_SYSTEM), REFERRAL, &treatment)
    });
    wanted
}
