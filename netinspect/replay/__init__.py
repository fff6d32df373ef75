"""Captures read again: packets to conversations, conversations to the same judgement as at the gateway.

    source (files, compression) ▶ pcap, pcapng ▶ flows ▶ tcp ▶ conversation ▶ the Inspector ▶ records
"""
