//! Address of EC2 in a region.

use aws_config::SdkConfig;
use aws_types::service_config::ServiceConfigKey;
use hyper::Uri;

use super::Ec2Error;

/// Returns the address: of `AWS_ENDPOINT_URL_EC2`, the profile's `ec2` service, `AWS_ENDPOINT_URL`, else that of the region.
pub(super) fn endpoint(config: &SdkConfig, region: &str) -> Result<String, Ec2Error> {
    let key = ServiceConfigKey::builder().service_id("EC2").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let key = key.map_err(|error| Ec2Error::Endpoint(error.to_string()))?;
    let configured = config.service_config().and_then(|service| service.load_config(key));
    let configured = configured.or_else(|| config.endpoint_url().map(str::to_owned));
    let address = match configured {
        Some(address) => format!("{}/", address.trim_end_matches('/')),
        None => of_region(region, config.use_fips() == Some(true), config.use_dual_stack() == Some(true)),
    };
    let is_valid = address.parse::<Uri>().is_ok_and(|uri| uri.host().is_some() && uri.scheme().is_some());
    if is_valid { Ok(address) } else { Err(Ec2Error::Endpoint(address)) }
}

/// <https://docs.aws.amazon.com/general/latest/gr/ec2-service.html>
fn of_region(region: &str, fips: bool, dual_stack: bool) -> String {
    let service = if fips { "ec2-fips" } else { "ec2" };
    let suffix = match (dual_stack, region) {
        (true, region) if region.starts_with("cn-") => "api.amazonwebservices.com.cn",
        (true, _) => "api.aws",
        (_, region) if region.starts_with("cn-") => "amazonaws.com.cn",
        (_, region) if region.starts_with("us-iso-") => "c2s.ic.gov",
        (_, region) if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        (_, region) if region.starts_with("eusc-") => "amazonaws.eu",
        _ => "amazonaws.com",
    };
    format!("https://{service}.{region}.{suffix}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_its_domain() {
        for (region, fips, dual_stack, address) in [
            ("eu-west-1", false, false, "https://ec2.eu-west-1.amazonaws.com/"),
            ("us-gov-east-1", true, false, "https://ec2-fips.us-gov-east-1.amazonaws.com/"),
            ("cn-north-1", false, false, "https://ec2.cn-north-1.amazonaws.com.cn/"),
            ("us-iso-east-1", false, false, "https://ec2.us-iso-east-1.c2s.ic.gov/"),
            ("us-isob-east-1", false, false, "https://ec2.us-isob-east-1.sc2s.sgov.gov/"),
            ("eu-west-1", false, true, "https://ec2.eu-west-1.api.aws/"),
        ] {
            assert_eq!(of_region(region, fips, dual_stack), address);
        }
    }
}
