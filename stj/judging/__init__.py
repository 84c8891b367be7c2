"""The product: a trained judge as a library, on files of pairs, as a jury, and over HTTP."""
