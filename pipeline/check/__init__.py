"""`hublabel check`: what a run would be like, from a sample; and which preprocessing is right, from labelled images."""
