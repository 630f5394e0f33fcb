"""What a picture and a label are: channels and transparency, and the kinds of labels."""
