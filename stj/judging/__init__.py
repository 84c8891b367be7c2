"""The product: a trained judge as a library, over files of pairs, as a jury, and over HTTP."""
