//! Divisions of the five cities and the two guests, as data.
//!
//! Present codes: GB/T 2260 as published by the National Bureau of Statistics (china-division 2.7.0) (Q). Statistical
//! zones: the Bureau's codes (Q), names from memory (M). Former codes and their successors (Q and M), with the year of the change.

use super::division::{Division, DivisionKind};

const fn city(code: &'static str, name: &'static str) -> Division {
    Division {
        code,
        name,
        kind: DivisionKind::City,
    }
}

const fn guest(code: &'static str, name: &'static str) -> Division {
    Division {
        code,
        name,
        kind: DivisionKind::GuestCity,
    }
}

const fn county(code: &'static str, name: &'static str) -> Division {
    Division {
        code,
        name,
        kind: DivisionKind::County,
    }
}

const fn zone(code: &'static str, name: &'static str) -> Division {
    Division {
        code,
        name,
        kind: DivisionKind::StatisticalZone,
    }
}

const fn former(
    code: &'static str,
    name: &'static str,
    successor: &'static str,
    year: u16,
) -> Division {
    Division {
        code,
        name,
        kind: DivisionKind::Former { successor, year },
    }
}

/// Every known division, in code order.
pub(super) const DIVISIONS: &[Division] = &[
    city("370200", "青岛市"),
    county("370202", "市南区"),
    county("370203", "市北区"),
    former("370205", "四方区", "370203", 2012),
    county("370211", "黄岛区"),
    county("370212", "崂山区"),
    county("370213", "李沧区"),
    county("370214", "城阳区"),
    county("370215", "即墨区"),
    county("370281", "胶州市"),
    former("370282", "即墨市", "370215", 2017),
    county("370283", "平度市"),
    former("370284", "胶南市", "370211", 2012),
    county("370285", "莱西市"),
    guest("370500", "东营市"),
    city("370600", "烟台市"),
    county("370602", "芝罘区"),
    county("370611", "福山区"),
    county("370612", "牟平区"),
    county("370613", "莱山区"),
    county("370614", "蓬莱区"),
    former("370634", "长岛县", "370614", 2020),
    zone("370671", "烟台高新技术产业开发区"),
    zone("370672", "烟台经济技术开发区"),
    zone("370676", "烟台保税港区"),
    county("370681", "龙口市"),
    county("370682", "莱阳市"),
    county("370683", "莱州市"),
    former("370684", "蓬莱市", "370614", 2020),
    county("370685", "招远市"),
    county("370686", "栖霞市"),
    county("370687", "海阳市"),
    city("370700", "潍坊市"),
    county("370702", "潍城区"),
    county("370703", "寒亭区"),
    county("370704", "坊子区"),
    county("370705", "奎文区"),
    county("370724", "临朐县"),
    county("370725", "昌乐县"),
    zone("370772", "潍坊滨海经济技术开发区"),
    county("370781", "青州市"),
    county("370782", "诸城市"),
    county("370783", "寿光市"),
    county("370784", "安丘市"),
    county("370785", "高密市"),
    county("370786", "昌邑市"),
    city("371000", "威海市"),
    county("371002", "环翠区"),
    county("371003", "文登区"),
    zone("371071", "威海火炬高技术产业开发区"),
    zone("371072", "威海经济技术开发区"),
    zone("371073", "威海临港经济技术开发区"),
    former("371081", "文登市", "371003", 2014),
    county("371082", "荣成市"),
    county("371083", "乳山市"),
    city("371100", "日照市"),
    county("371102", "东港区"),
    county("371103", "岚山区"),
    county("371121", "五莲县"),
    county("371122", "莒县"),
    zone("371171", "日照经济技术开发区"),
    guest("371600", "滨州市"),
];
