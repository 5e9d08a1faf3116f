"""What operators ask and decide: peers, grants, policy, alerts, checks of the store."""
