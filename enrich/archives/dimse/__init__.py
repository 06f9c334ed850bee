"""DICOM nodes (PACS) as archives, by the message exchange of PS3.7 and the services of PS3.4."""
