"""What several tests share: loopback servers, tiny models of many architectures."""
