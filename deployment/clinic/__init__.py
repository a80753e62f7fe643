"""The patient's page: shares a picture in a browser, served by the patient's own agent."""
