"""From `[network]` to the way out of a client."""

from anykontext.config.main import Config
from anykontext.io.network import Network, network_of


def way_out(config: Config) -> Network:
    """The proxies and the certificates of a configuration, checked before anything is sent.

    Raises:
        ConfigurationError: One of them cannot be used; it begins with the file and the line.
    """
    proxy, ca_file = config.network.proxy, config.network.ca_file
    return network_of(
        proxy.get_secret_value() if proxy else None,
        config.resolve(ca_file) if ca_file else None,
        config.environ,
        {name: config.where("network", name) for name in ("proxy", "ca_file")},
    )
