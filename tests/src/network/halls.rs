//! A network whose cities have real item services behind their gateways, and the services that these ask.

use anyhow::Result;
use banqiao_proto::directory::v1::Grant;

use super::{CARD, City, LIS, Network, Plan, REPORTS, carried, set};
use crate::{
    admin::grant,
    cards::Cards,
    items::{DEPARTMENT, ITEM_SYSTEM, Items, WINDOW},
    labs::{LAB_SYSTEM, Lab},
};

/// The cases of the item service.
pub const CASES: &str = "banqiao.item.v1.CaseService";

/// Their materials.
pub const MATERIALS: &str = "banqiao.item.v1.MaterialService";

/// Their figures.
pub const STATISTICS: &str = "banqiao.item.v1.StatisticsService";

/// Three cities with an item service each; Qingdao has a card service, and Yantai a laboratory service.
#[derive(Debug)]
pub struct Halls {
    /// The cities and their gateways.
    pub network: Network,
    /// The item services, in the order of the cities.
    pub items: [Items; 3],
    /// Qingdao's card service.
    pub cards: Cards,
    /// Yantai's laboratory service.
    pub lab: Lab,
}

impl Halls {
    /// Starts them. Windows of every city may do everything about cases of every city, each department about those of its own;
    /// item services may open tasks, look for cases, verify cards and find reports.
    ///
    /// # Errors
    ///
    /// Fails with the output of a process that does not become ready.
    pub async fn start() -> Result<Self> {
        let mut network = Plan::cities(3).lay_out()?;
        let items = [
            Items::lay_out(&network, 0)?,
            Items::lay_out(&network, 1)?,
            Items::lay_out(&network, 2)?,
        ];
        let cards = Cards::lay_out(&network, 0, 10)?;
        let lab = Lab::lay_out(&network, 1)?;
        for (index, (city, items)) in network.cities.iter_mut().zip(&items).enumerate() {
            let identity = city.id(ITEM_SYSTEM);
            let mut services = [CASES, MATERIALS, STATISTICS]
                .map(|service| carried(service, items.address, &identity))
                .to_vec();
            match index {
                0 => services.push(carried(CARD, cards.address, &city.id("hrss/card"))),
                1 => services.push(carried(REPORTS, lab.address, &city.id(LAB_SYSTEM))),
                _ => {}
            }
            let gateway = city.gateway_mut();
            set(&mut gateway.config, "services", services);
            gateway.write_config()?;
        }
        network.run().await?;
        cards.listens().await?;
        lab.listens().await?;
        for (city, items) in network.cities.iter().zip(&items) {
            items.listens().await?;
            for wanted in wanted(&network, city) {
                city.grant(wanted).await?;
            }
        }
        Ok(Self {
            network,
            items,
            cards,
            lab,
        })
    }
}

/// What a city grants.
fn wanted(network: &Network, city: &City) -> Vec<Grant> {
    let granted = |client: String, service, purpose: &str| Grant {
        purposes: vec![purpose.to_owned()],
        ..grant(&client, service)
    };
    let handling = "case-handling";
    let mut wanted = vec![granted(city.id(DEPARTMENT), CASES, handling)];
    for other in &network.cities {
        wanted.extend([
            granted(other.id(WINDOW), CASES, handling),
            granted(other.id(WINDOW), MATERIALS, handling),
            granted(other.id(WINDOW), STATISTICS, "statistics"),
            granted(other.id(ITEM_SYSTEM), CASES, handling),
        ]);
        if city.code == network.cities[0].code {
            wanted.push(granted(other.id(ITEM_SYSTEM), CARD, handling));
        }
        if city.code == network.cities[1].code {
            let find = granted(other.id(ITEM_SYSTEM), REPORTS, "medical-treatment");
            // That there is a report is all that a case needs to know.
            wanted.push(Grant {
                methods: vec!["FindReports".to_owned()],
                disclosed_fields: vec!["group:basic".to_owned()],
                ..find
            });
        }
    }
    if city.code == network.cities[1].code {
        wanted.push(granted(city.id(LIS), REPORTS, "medical-treatment"));
    }
    wanted
}
