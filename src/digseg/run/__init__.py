"""Where readers, engine and model meet: a job in, files and a result out."""
