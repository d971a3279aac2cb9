//! Networks whose cities have a real card service behind their gateways.

use anyhow::Result;

use super::{CARD, ELIGIBILITY, ENTITLEMENT, Network, PENSION, Plan, SYSTEM, carried, set};
use crate::{admin::grant, cards::Cards};

impl Network {
    /// Starts two cities; behind the second stands a real card service with so many synthetic holders, and
    /// everything of it is granted to [`SYSTEM`] of the first for the purpose `card-service`.
    ///
    /// # Errors
    ///
    /// Fails with the output of a process that does not become ready.
    pub async fn card(holders: u32) -> Result<(Self, Cards)> {
        Self::card_with(holders, |_| {}).await
    }

    /// As [`Network::card`], with a configuration of the card service that `change` has had.
    ///
    /// # Errors
    ///
    /// As [`Network::card`].
    pub async fn card_with(
        holders: u32,
        change: impl FnOnce(&mut toml::Table),
    ) -> Result<(Self, Cards)> {
        let mut network = Plan::cities(2).lay_out()?;
        let cards = Cards::lay_out_with(&network, 1, holders, change)?;
        let city = &mut network.cities[1];
        let identity = city.id("hrss/card");
        let gateway = city.gateway_mut();
        set(
            &mut gateway.config,
            "services",
            vec![carried(CARD, cards.address, &identity)],
        );
        gateway.write_config()?;
        network.run().await?;
        cards.listens().await?;
        let mut wanted = grant(&network.cities[0].id(SYSTEM), CARD);
        wanted.purposes = vec!["card-service".to_owned()];
        network.cities[1].grant(wanted).await?;
        Ok((network, cards))
    }

    /// Starts two cities, each with a real card service; both cities' card services may call everything of
    /// each other's pension transfers, and of their own.
    ///
    /// # Errors
    ///
    /// Fails with the output of a process that does not become ready.
    pub async fn pensions() -> Result<(Self, [Cards; 2])> {
        let mut network = Plan::cities(2).lay_out()?;
        let cards = [
            Cards::lay_out(&network, 0, 1)?,
            Cards::lay_out(&network, 1, 1)?,
        ];
        for (city, cards) in network.cities.iter_mut().zip(&cards) {
            let identity = city.id("hrss/card");
            let gateway = city.gateway_mut();
            set(
                &mut gateway.config,
                "services",
                vec![carried(PENSION, cards.address, &identity)],
            );
            gateway.write_config()?;
        }
        network.run().await?;
        for (city, cards) in network.cities.iter().zip(&cards) {
            cards.listens().await?;
            for client in &network.cities {
                city.grant(grant(&client.id("hrss/card"), PENSION)).await?;
            }
        }
        Ok((network, cards))
    }

    /// Starts two cities with a real card service each, which holds so many synthetic holders with their insurance, and
    /// the pensioners among them. Each service calls through its own gateway; entitlement and eligibility are granted to
    /// [`SYSTEM`] of both cities, and entitlement to the other city's card service.
    ///
    /// # Errors
    ///
    /// Fails with the output of a process that does not become ready.
    pub async fn benefits(holders: u32) -> Result<(Self, [Cards; 2])> {
        let mut network = Plan::cities(2).lay_out()?;
        let services = [
            Cards::lay_out(&network, 0, holders)?,
            Cards::lay_out(&network, 1, holders)?,
        ];
        for (city, cards) in network.cities.iter_mut().zip(&services) {
            cards.import_benefits(city.code, holders)?;
            let identity = city.id("hrss/card");
            let carried = [CARD, ENTITLEMENT, ELIGIBILITY]
                .map(|service| carried(service, cards.address, &identity));
            let gateway = city.gateway_mut();
            set(&mut gateway.config, "services", carried.to_vec());
            gateway.write_config()?;
        }
        network.run().await?;
        for (index, cards) in services.iter().enumerate() {
            cards.listens().await?;
            let city = &network.cities[index];
            let clients = network.cities.iter().map(|city| city.id(SYSTEM));
            let mut wanted: Vec<_> = clients
                .flat_map(|client| {
                    [ENTITLEMENT, ELIGIBILITY].map(|service| grant(&client, service))
                })
                .collect();
            wanted.push(grant(
                &network.cities[1 - index].id("hrss/card"),
                ENTITLEMENT,
            ));
            for mut wanted in wanted {
                wanted.purposes = vec!["benefit-eligibility".to_owned()];
                city.grant(wanted).await?;
            }
        }
        Ok((network, services))
    }
}
